"""Recovery of runs whose process died, or whose store was gone at their end.

Each run has the tag ``creation.id``, by which it can be found when the store's answer
was lost. The next start in a folder finishes the runs that have left a file there (see
``pending_runs``): the run, duplicates of it, and its child runs. Runs without a file
are never touched.
"""

import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
from click import ClickException
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from . import client, database, environment, failures, names, redact
from .pending_runs import CREATION_TAG, FOLDER, PendingRun, Row, remove, store_key

MAX_SECONDS = 10  # for the recovery of all runs
NOT_IN_STORE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")

logger = logging.getLogger(__name__)


def same_creation(creation: str) -> str:
    """Return MLflow's filter for the runs of one creation."""
    return f"tags.`{CREATION_TAG}` = '{creation}'"


@contextmanager
def creating_child_runs(parent: Any) -> Iterator[dict[str, str]]:
    """Yield the tags of child runs; end those that a lost answer has left open.

    If the block fails, or an answer may still come, the next start looks again.
    """
    run_id, began = parent.info.run_id, time.monotonic()
    pending = PendingRun.open_files.get(run_id)
    was_unsure = bool(pending and pending.unsure)
    if pending:
        pending.set_unsure(True)
    creation = uuid.uuid4().hex
    yield {names.PARENT_TAG: run_id, CREATION_TAG: creation}
    end_runs(parent.info.experiment_id, same_creation(creation))
    if pending and time.monotonic() - began < client.ANSWER_SECONDS:
        pending.set_unsure(was_unsure)


def create_run(pending: PendingRun, experiment: str, tags: dict[str, str]) -> Any:
    """Create a run, and make it the active one.

    A request that timed out may still succeed, so a retry can create a duplicate: the
    run is first looked for by its tag. A duplicate that a busy server creates later is
    ended by the next start.
    """
    same = same_creation(pending.creation)
    environment.set_env("MLFLOW_EXPERIMENT_ID", experiment)
    new: Any = {"experiment_id": experiment}
    new["tags"] = tags | {CREATION_TAG: pending.creation}
    with client.http_timeouts({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, override=True):
        try:
            run: Any = mlflow.start_run(**new)
        except MlflowException:
            if created := MlflowClient().search_runs([experiment], same):
                run = resume(created[0])
            else:
                pending.set_unsure(True)
                run = mlflow.start_run(**new)
    pending.set_run(run.info.run_id)
    return run


def resume(run: Any) -> Any:
    """Make a run active that was just created; end it as FAILED if that fails."""
    try:
        return mlflow.start_run(run_id=run.info.run_id)
    except Exception as error:
        MlflowClient().set_terminated(run.info.run_id, "FAILED")
        message = f"MLflow cannot start the run: {redact.first_line(error)}"
        raise ClickException(message) from error


def finish_interrupted_runs(project: Path, uri: str, joined: str | None) -> None:
    """Finish the runs of this folder whose processes are gone.

    Runs of other stores than this one have to wait; ``joined`` is the run that this
    process continues.
    """
    until = time.monotonic() + MAX_SECONDS
    for path in sorted((project / FOLDER).glob("*.db")):
        try:
            with closing(database.open_lock(path, timeout=0)) as db:
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


def finish_run(row: Row) -> None:
    """Give a run the status that it ended with, and end its orphans."""
    died = row.status is None
    with client.ignore_errors(*NOT_IN_STORE):
        if row.run:
            runs = [MlflowClient().get_run(row.run)]
        else:  # it died while it created the run
            same = same_creation(row.creation)
            runs = MlflowClient().search_runs([row.experiment], same)
        for run in runs:
            if run.info.status == "RUNNING":
                set_status(run.info.run_id, row)
        if row.run and (died or row.unsure):
            end_orphan_runs(row.run, every_child=died)


def set_status(run_id: str, row: Row) -> None:
    """End a run as its file says; without a status there, its process died."""
    status, failure = row.status, json.loads(row.failure or "{}")
    if status is None:
        status, failure = "KILLED", {"failure.error": "the process died"}
    try:
        failures.log_failure(run_id, failure)
    except MlflowException as error:
        logger.warning("Run %s lacks its failure: %s", run_id, error)
    MlflowClient().set_terminated(run_id, status, row.ended)
    logger.info("Run %s of an earlier start has ended %s.", run_id, status)


def end_orphan_runs(run_id: str, *, every_child: bool = False) -> None:
    """End duplicates of a run, and those child runs of ours that it has left open.

    With ``every_child``, those that we have not created end, too.
    """
    run = MlflowClient().get_run(run_id)
    experiment = run.info.experiment_id
    if creation := run.data.tags.get(CREATION_TAG):
        end_runs(experiment, same_creation(creation), keep=run_id)
    children = f"tags.`{names.PARENT_TAG}` = '{run_id}'"
    ours = "" if every_child else f" and tags.`{CREATION_TAG}` != ''"
    end_runs(experiment, children + ours)


def end_runs(experiment: str, which: str, keep: str = "") -> None:
    """End the runs of a filter that are still running, except for one to keep.

    Those without metrics go to MLflow's trash.
    """
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
