"""Which runs this folder still owes an end: a small locked file for each.

The file is written before the run computes anything, and its process keeps it locked as
long as it lives; the lock dies with the process, also where process ids say nothing. At
the end the true status goes into the file, then to MLflow, and then the file goes. What
the next start finds here unlocked, it delivers. A run without a file is not ours.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from . import provenance, redact, store

FOLDER = ".runs"
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
NEW = """
PRAGMA locking_mode = EXCLUSIVE;  -- until it is closed
PRAGMA journal_mode = MEMORY;  -- a full disk takes changes in place
BEGIN EXCLUSIVE;
DROP TABLE IF EXISTS owed;
CREATE TABLE owed (store, file, status, ended, failure)
"""
PATIENCE = 10  # seconds for all that is owed
OWED = "SELECT store, file, status, ended, failure FROM owed"

logger = logging.getLogger(__name__)


def address(uri: str, project: Path) -> str:
    """Return a store's address as it is compared: without secrets, movable."""
    return redact.mask(uri).replace(str(project), ".").rstrip("/")


class Entry:
    """The file of a run that this process has to end."""

    def __init__(self, project: Path, run_id: str, uri: str) -> None:
        self._db: sqlite3.Connection | None = None
        self.path = project / FOLDER / f"{run_id}.db"
        try:
            self.path.parent.mkdir(exist_ok=True)
            options: Any = {"isolation_level": None, "check_same_thread": False}
            self._db = sqlite3.connect(self.path, timeout=5, **options)
            self._db.executescript(NEW)
            # A copy of the file is another file, and counts for nothing.
            values = (address(uri, project), self.path.stat().st_ino)
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


def deliver(project: Path, uri: str, joined: str | None) -> None:
    """End the runs of this folder whose processes are gone.

    Args:
        project: The project's folder.
        uri: The store that this process uses; what is owed to others has to wait.
        joined: The run that this process goes on with, which is owed nothing yet.
    """
    until = time.monotonic() + PATIENCE
    for path in sorted((project / FOLDER).glob("*.db")):
        try:
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
                db.execute("BEGIN EXCLUSIVE")
                row = db.execute(OWED).fetchone()
                ours = row[:2] == (address(uri, project), path.stat().st_ino)
                if path.stem == joined or not ours or time.monotonic() > until:
                    continue
                end(path.stem, *row[2:])
        except sqlite3.Error:  # its process lives, or is just making it
            continue
        except Exception as error:
            said = redact.first_line(error)
            logger.warning("The end of run %s is still owed: %s", path.stem, said)
        else:
            path.unlink(missing_ok=True)


def end(run_id: str, status: str | None, ended: int | None, failure: str | None):
    """Give a run, and what runs below it, the end that is owed, if there is none."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        run, died = client.get_run(run_id), status is None
        if run.info.status == "RUNNING":
            told = json.loads(failure or "{}")
            if died:
                status, told = "KILLED", {"failure.error": "the process died"}
            try:
                provenance.log_failure(run_id, told)
            except MlflowException as error:
                logger.warning("Run %s lacks its failure: %s", run_id, error)
            client.set_terminated(run_id, status, ended)
            logger.info("Run %s of an earlier start has ended %s.", run_id, status)
        if status != "FINISHED" or "creation.again" in run.data.tags:
            store.remove_strays(run_id, died)
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
