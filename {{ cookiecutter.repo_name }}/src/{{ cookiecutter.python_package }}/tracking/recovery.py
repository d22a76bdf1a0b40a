"""Recovery of interrupted runs."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from click import ClickException

from . import client, environment, failures, redact

FOLDER = ".runs"
NOT_IN_STORE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
CREATE_SQL = """
PRAGMA locking_mode = EXCLUSIVE;  -- until it is closed
PRAGMA journal_mode = MEMORY;  -- a full disk takes changes in place
BEGIN EXCLUSIVE;
DROP TABLE IF EXISTS owed;
CREATE TABLE owed (store, file, status, ended, failure)
"""
MAX_SECONDS = 10  # seconds for all that is owed
SELECT_SQL = "SELECT store, file, status, ended, failure FROM owed"

logger = logging.getLogger(__name__)


def store_key(uri: str, project: Path) -> str:
    """Return a store's address as it is compared: without secrets, movable."""
    return redact.mask(uri).replace(str(project), ".").rstrip("/")


class PendingRun:
    """The file of a run that this process has to end."""

    def __init__(self, project: Path, run_id: str, uri: str) -> None:
        self._db: sqlite3.Connection | None = None
        self.path = project / FOLDER / f"{run_id}.db"
        try:
            self.path.parent.mkdir(exist_ok=True)
            options: Any = {"isolation_level": None, "check_same_thread": False}
            self._db = sqlite3.connect(self.path, timeout=5, **options)
            self._db.executescript(CREATE_SQL)
            # A copy of the file is another file, and counts for nothing.
            values = (store_key(uri, project), self.path.stat().st_ino)
            self._db.execute("INSERT INTO owed (store, file) VALUES (?, ?)", values)
            self._db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            self.close()
            logger.warning(
                "Cannot write in %s (%s): if this process is killed, or the store is "
                "gone at its end, the MLflow run will say RUNNING for ever.",
                *(self.path.parent, error),
            )

    def owe(self, status: str) -> None:
        """Write down how the run has ended, before MLflow is told."""
        now = int(time.time() * 1000)
        self._write("UPDATE owed SET status = ?, ended = ?", status, now)

    def add(self, failure: dict[str, str]) -> None:
        """Write down why it has failed."""
        self._write("UPDATE owed SET failure = ?", json.dumps(failure))

    def _write(self, statement: str, *values: Any) -> None:
        if self._db:
            try:
                self._db.execute(statement, values)
            except sqlite3.Error as error:
                logger.warning("Cannot write all of %s: %s", self.path, error)

    def close(self, *, delivered: bool = False) -> None:
        """Unlock the file; remove it if nothing is owed any more."""
        if self._db:
            self._db.close()
            self._db = None
            if delivered:
                self.path.unlink(missing_ok=True)


def finish_interrupted_runs(project: Path, uri: str, joined: str | None) -> None:
    """End the runs of this folder whose processes are gone.

    Args:
        project: The project's folder.
        uri: The store that this process uses; what is owed to others has to wait.
        joined: The run that this process goes on with, which is owed nothing yet.
    """
    until = time.monotonic() + MAX_SECONDS
    for path in sorted((project / FOLDER).glob("*.db")):
        try:
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
                db.execute("BEGIN EXCLUSIVE")
                row = db.execute(SELECT_SQL).fetchone()
                ours = row[:2] == (store_key(uri, project), path.stat().st_ino)
                if path.stem == joined or not ours or time.monotonic() > until:
                    continue
                finish_run(path.stem, *row[2:])
        except sqlite3.Error:  # its process lives, or is just making it
            continue
        except Exception as error:
            said = redact.first_line(error)
            logger.warning("The end of run %s is still owed: %s", path.stem, said)
        else:
            path.unlink(missing_ok=True)


def finish_run(
    run_id: str, status: str | None, ended: int | None, failure_json: str | None
):
    """Give a run, and what runs below it, the end that is owed, if there is none."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        run, died = client.get_run(run_id), status is None
        if run.info.status == "RUNNING":
            told = json.loads(failure_json or "{}")
            if died:
                status, told = "KILLED", {"failure.error": "the process died"}
            try:
                failures.log_failure(run_id, told)
            except MlflowException as error:
                logger.warning("Run %s lacks its failure: %s", run_id, error)
            client.set_terminated(run_id, status, ended)
            logger.info("Run %s of an earlier start has ended %s.", run_id, status)
        if status != "FINISHED" or "creation.again" in run.data.tags:
            end_orphan_runs(run_id, died)
    except MlflowException as error:
        if error.error_code not in NOT_IN_STORE:
            raise


def create_run(experiment: str, tags: dict[str, str]) -> Any:
    """Open a run, and make it the active one.

    The answer may be lost, and asking again would make another run: so it is looked
    for first, by a tag that nobody else has. A busy server may do the first request
    after that; the tag ``creation.again`` says that there may be such a twin.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    environment.set_env("MLFLOW_EXPERIMENT_ID", experiment)
    unique = uuid.uuid4().hex  # Kedro's run id is a time, which others may share
    new: Any = {"experiment_id": experiment, "tags": tags | {"creation.id": unique}}
    with client.http_timeouts({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, override=True):
        try:
            return mlflow.start_run(**new)
        except MlflowException:
            same = f"tags.`creation.id` = '{unique}'"
            mlflow_client = mlflow.MlflowClient()
            for made in mlflow_client.search_runs([experiment], same):
                try:
                    return mlflow.start_run(run_id=made.info.run_id)
                except Exception as error:  # it is made, but cannot be worked with
                    mlflow_client.set_terminated(made.info.run_id, "FAILED")
                    raise ClickException(
                        f"MLflow cannot start the run: {redact.first_line(error)}"
                    ) from error
            new["tags"]["creation.again"] = "true"
            return mlflow.start_run(**new)


def end_orphan_runs(run_id: str, died: bool = False) -> None:
    """End what a run has left running: its twins, and candidates of its search.

    Args:
        run_id: The MLflow run.
        died: Whether its process was killed, and all that runs below it.
    """
    from mlflow import MlflowClient

    run = MlflowClient().get_run(run_id)
    twins = f"tags.`creation.id` = '{run.data.tags.get('creation.id', run_id)}'"
    below = f"tags.`mlflow.parentRunId` = '{run_id}'"
    ours = "" if died else " and tags.`creation.id` != ''"
    for which in (twins, below + ours):
        end_runs(run.info.experiment_id, which, but=run_id)


def end_runs(experiment: str, which: str, but: str = "") -> None:
    """End runs that are still running; without metrics, they go to MLflow's trash.

    Args:
        experiment: The id of their experiment.
        which: A filter of MLflow's.
        but: The id of the run that stays.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    running = f"{which} and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], running):
        if (run_id := run.info.run_id) == but:
            continue
        client.set_terminated(run_id, "KILLED")
        try:
            if not run.data.metrics:
                client.delete_run(run_id)
        except MlflowException as error:  # this user may not
            logger.info("Run %s stays, as KILLED: %s", run_id, redact.first_line(error))
