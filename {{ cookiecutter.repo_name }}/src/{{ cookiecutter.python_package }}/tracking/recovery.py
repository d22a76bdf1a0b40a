"""Recovery of runs whose process died, or whose store was gone at their end.

Before a run is created, a small file in ``.runs`` notes the tag by which it can be
found (``creation.id``). The process keeps the file locked while it lives; the lock dies
with the process. At the end the status is written to the file, then to MLflow, and then
the file is removed. The next start finishes what it finds here unlocked, by that tag:
the run, duplicates of it, and its child runs. Runs without a file are never touched.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from click import ClickException

from . import client, environment, failures, names, redact

FOLDER = ".runs"
CREATION_TAG = "creation.id"  # of every run that we create; no other run has its value
MAX_SECONDS = 10  # for the recovery of all runs
NOT_IN_STORE = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
)
CREATE_SQL = """
PRAGMA locking_mode = EXCLUSIVE;  -- until it is closed
PRAGMA journal_mode = MEMORY;  -- a full disk takes changes in place
BEGIN EXCLUSIVE;
DROP TABLE IF EXISTS pending;
CREATE TABLE pending (
    store, inode, experiment, creation, run, status, ended, failure, unsure
);
"""
INSERT_SQL = "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """The content of a pending run's file."""

    store: str
    inode: int  # a copied file has another one, and is ignored
    experiment: str
    creation: str  # the value of the run's tag; empty for a run that was joined
    run: str | None  # its id, once it is known
    status: str | None  # how it ended; None while it runs
    ended: int | None  # in ms since 1970
    failure: str | None  # JSON
    unsure: int  # whether duplicates or open child runs may be left


def store_key(uri: str, project: Path) -> str:
    """Return a store's address for comparison: without secrets or project folder."""
    return redact.mask(uri).replace(str(project), ".").rstrip("/")


class PendingRun:
    """The file of a run that this process has to end.

    Args:
        project: The project's folder.
        uri: The address of the store.
        experiment: The id of the experiment.
        run_id: The id of a run that exists already; without it, the run is about to be
            created with the tag ``creation.id``, whose value is ``creation``.
    """

    open_files: dict[str, PendingRun] = {}  # of this process, by run

    def __init__(
        self, project: Path, uri: str, experiment: str, run_id: str | None = None
    ) -> None:
        self._db: sqlite3.Connection | None = None
        self.creation = "" if run_id else uuid.uuid4().hex
        self.run_id, self.unsure = run_id, False
        self.path = project / FOLDER / f"{run_id or self.creation}.db"
        try:
            self.path.parent.mkdir(exist_ok=True)
            options: Any = {"isolation_level": None, "check_same_thread": False}
            self._db = sqlite3.connect(self.path, timeout=5, **options)
            self._db.executescript(CREATE_SQL)
            inode = self.path.stat().st_ino
            row = Row(
                store_key(uri, project), inode, experiment, self.creation, run_id,
                None, None, None, 0,
            )  # fmt: skip
            self._db.execute(INSERT_SQL, row)
            self._db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            self.close()
            logger.warning(
                "Cannot write in %s (%s): if this process is killed, or the store is "
                "gone at its end, the MLflow run will say RUNNING for ever.",
                *(self.path.parent, error),
            )
        if run_id:
            self.open_files[run_id] = self

    def set_run(self, run_id: str) -> None:
        """Note the id of the run that was created."""
        self.run_id = run_id
        self.open_files[run_id] = self
        self._write("UPDATE pending SET run = ?", run_id)

    def set_final_status(self, status: str) -> None:
        """Note how the run has ended, before MLflow is told."""
        now = int(time.time() * 1000)
        self._write("UPDATE pending SET status = ?, ended = ?", status, now)

    def set_failure(self, failure: dict[str, str]) -> None:
        """Note why it has failed."""
        self._write("UPDATE pending SET failure = ?", json.dumps(failure))

    def set_unsure(self, unsure: bool) -> None:
        """Note whether the store may hold, or get, duplicates or open child runs."""
        self.unsure = unsure
        self._write("UPDATE pending SET unsure = ?", int(unsure))

    def _write(self, statement: str, *values: Any) -> None:
        if self._db:
            try:
                self._db.execute(statement, values)
            except sqlite3.Error as error:
                logger.warning("Cannot write all of %s: %s", self.path, error)

    def close(self, *, done: bool = False) -> None:
        """Unlock the file; remove it if nothing is left to do."""
        self.open_files.pop(self.run_id or "", None)
        if self._db:
            self._db.close()
            self._db = None
            if done:
                remove(self.path)


@contextmanager
def creating_child_runs(parent: Any) -> Iterator[dict[str, str]]:
    """Yield the tags of child runs; end those that a lost answer has left open.

    If the block fails, or an answer may still come, the next start looks again.

    Args:
        parent: The MLflow run.
    """
    run_id, began = parent.info.run_id, time.monotonic()
    pending = PendingRun.open_files.get(run_id)
    was_unsure = bool(pending and pending.unsure)
    if pending:
        pending.set_unsure(True)
    creation = uuid.uuid4().hex
    yield {names.PARENT_TAG: run_id, CREATION_TAG: creation}
    end_runs(parent.info.experiment_id, f"tags.`{CREATION_TAG}` = '{creation}'")
    if pending and time.monotonic() - began < client.ANSWER_SECONDS:
        pending.set_unsure(was_unsure)


def create_run(pending: PendingRun, experiment: str, tags: dict[str, str]) -> Any:
    """Create a run, and make it the active one.

    A request that timed out may still succeed, so a retry can create a duplicate: the
    run is first looked for by its tag. A duplicate that a busy server creates later is
    ended by the next start.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    environment.set_env("MLFLOW_EXPERIMENT_ID", experiment)
    new: Any = {"experiment_id": experiment}
    new["tags"] = tags | {CREATION_TAG: pending.creation}
    with client.http_timeouts({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, override=True):
        try:
            run: Any = mlflow.start_run(**new)
        except MlflowException:
            created = find_created(experiment, pending.creation)
            if not created:
                pending.set_unsure(True)
            run = resume(created[0]) if created else mlflow.start_run(**new)
    pending.set_run(run.info.run_id)
    return run


def resume(run: Any) -> Any:
    """Make a run active that was just created.

    Raises:
        ClickException: It cannot be used; it has ended as FAILED.
    """
    import mlflow

    try:
        return mlflow.start_run(run_id=run.info.run_id)
    except Exception as error:
        mlflow.MlflowClient().set_terminated(run.info.run_id, "FAILED")
        message = f"MLflow cannot start the run: {redact.first_line(error)}"
        raise ClickException(message) from error


def find_created(experiment: str, creation: str) -> list[Any]:
    """Return the runs that have this value of the tag ``creation.id``."""
    from mlflow import MlflowClient

    same = f"tags.`{CREATION_TAG}` = '{creation}'"
    return list(MlflowClient().search_runs([experiment], same))


def finish_interrupted_runs(project: Path, uri: str, joined: str | None) -> None:
    """Finish the runs of this folder whose processes are gone.

    Args:
        project: The project's folder.
        uri: The store that this process uses; runs of other stores have to wait.
        joined: The run that this process continues.
    """
    until = time.monotonic() + MAX_SECONDS
    for path in sorted((project / FOLDER).glob("*.db")):
        try:
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
                db.execute("BEGIN EXCLUSIVE")
                row = Row(*db.execute("SELECT * FROM pending").fetchone())
                known = row[:2] == (store_key(uri, project), path.stat().st_ino)
                mine = joined is not None and row.run == joined
                if mine or not known or time.monotonic() > until:
                    continue
                finish_run(row)
        except sqlite3.Error:  # its process lives, or is just writing it
            continue
        except Exception as error:
            said = redact.first_line(error)
            logger.warning("Run %s could not be finished: %s", path.stem, said)
        else:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file; where another process reads it on Windows, the next start does."""
    with suppress(PermissionError):
        path.unlink(missing_ok=True)


def finish_run(row: Row) -> None:
    """Give a run the status that it ended with, and end its orphans."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    died = row.status is None
    try:
        if row.run:
            runs = [MlflowClient().get_run(row.run)]
        else:  # it died while it created the run
            runs = find_created(row.experiment, row.creation)
        for run in runs:
            if run.info.status == "RUNNING":
                set_status(run.info.run_id, row)
        if row.run and (died or row.unsure):
            end_orphan_runs(runs[0], every_child=died)
    except MlflowException as error:
        if error.error_code not in NOT_IN_STORE:
            raise


def set_status(run_id: str, row: Row) -> None:
    """End a run as its file says; without a status there, its process died."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    status, failure = row.status, json.loads(row.failure or "{}")
    if status is None:
        status, failure = "KILLED", {"failure.error": "the process died"}
    try:
        failures.log_failure(run_id, failure)
    except MlflowException as error:
        logger.warning("Run %s lacks its failure: %s", run_id, error)
    MlflowClient().set_terminated(run_id, status, row.ended)
    logger.info("Run %s of an earlier start has ended %s.", run_id, status)


def end_orphan_runs(run: Any, *, every_child: bool) -> None:
    """End duplicates of a run, and the child runs that it has left open.

    Args:
        run: The MLflow run.
        every_child: Whether also those end that we have not created.
    """
    experiment, run_id = run.info.experiment_id, run.info.run_id
    if creation := run.data.tags.get(CREATION_TAG):
        end_runs(experiment, f"tags.`{CREATION_TAG}` = '{creation}'", keep=run_id)
    children = f"tags.`{names.PARENT_TAG}` = '{run_id}'"
    ours = "" if every_child else f" and tags.`{CREATION_TAG}` != ''"
    end_runs(experiment, children + ours)


def end_runs(experiment: str, which: str, keep: str = "") -> None:
    """End runs that are still running; those without metrics go to MLflow's trash.

    Args:
        experiment: The id of their experiment.
        which: A filter of MLflow's.
        keep: The id of a run that is left alone.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    running = f"{which} and attributes.status = 'RUNNING'"
    for run in MlflowClient().search_runs([experiment], running):
        if (run_id := run.info.run_id) == keep:
            continue
        MlflowClient().set_terminated(run_id, "KILLED")
        try:
            if not run.data.metrics:
                MlflowClient().delete_run(run_id)
        except MlflowException as error:  # this user may not
            logger.info("Run %s stays, as KILLED: %s", run_id, redact.first_line(error))
