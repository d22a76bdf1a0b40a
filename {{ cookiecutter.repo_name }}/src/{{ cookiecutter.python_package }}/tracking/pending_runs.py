"""The files of runs that are not known to have ended.

Before a run is created, a small file in ``.runs`` notes the tag by which it can be
found (``creation.id``). The process keeps the file locked while it lives; the lock dies
with the process. At the end the status is written to the file, then to MLflow, and then
the file is removed. What is left unlocked, ``recovery`` finishes.
"""

import json
import logging
import sqlite3
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from . import database, redact

FOLDER = ".runs"
CREATION_TAG = "creation.id"  # of every run that we create; no other run has its value

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """The content of a pending run's file."""

    store: str
    inode: int  # a copied file has another one, and is ignored
    experiment: str
    creation: str  # the value of the run's tag; empty for a run that was joined
    run: str | None  # its id, once it is known
    status: str | None = None  # how it ended; None while it runs
    ended: int | None = None  # in ms since 1970
    failure: str | None = None  # JSON
    unsure: int = 0  # whether duplicates or open child runs may be left


CREATE_SQL = f"""
PRAGMA locking_mode = EXCLUSIVE;  -- until it is closed
PRAGMA journal_mode = MEMORY;  -- a full disk takes changes in place
BEGIN EXCLUSIVE;
DROP TABLE IF EXISTS pending;
CREATE TABLE pending ({", ".join(Row._fields)});
"""
INSERT_SQL = "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def store_key(uri: str, project: Path) -> str:
    """Return a store's address for comparison: without secrets or project folder."""
    return redact.mask(uri).replace(str(project), ".").rstrip("/")


class PendingRun:
    """The file of a run that this process has to end.

    Without a ``run_id``, the run is about to be created with the tag ``creation.id``,
    whose value is ``creation``.
    """

    open_files: dict[str, "PendingRun"] = {}  # of this process, by run

    def __init__(
        self, project: Path, uri: str, experiment: str, run_id: str | None = None
    ) -> None:
        self._db: sqlite3.Connection | None = None
        self.creation = "" if run_id else uuid.uuid4().hex
        self.run_id, self.unsure = run_id, False
        self.path = project / FOLDER / f"{run_id or self.creation}.db"
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._db = database.open_lock(self.path, timeout=5)
            self._db.executescript(CREATE_SQL)
            key, inode = store_key(uri, project), self.path.stat().st_ino
            row = Row(key, inode, experiment, self.creation, run_id)
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
        self._update("UPDATE pending SET run = ?", run_id)

    def set_final_status(self, status: str) -> None:
        """Note how the run has ended, before MLflow is told."""
        now = int(time.time() * 1000)
        self._update("UPDATE pending SET status = ?, ended = ?", status, now)

    def set_failure(self, failure: dict[str, str]) -> None:
        """Note why it has failed."""
        self._update("UPDATE pending SET failure = ?", json.dumps(failure))

    def set_unsure(self, unsure: bool) -> None:
        """Note whether the store may hold, or get, duplicates or open child runs."""
        self.unsure = unsure
        self._update("UPDATE pending SET unsure = ?", int(unsure))

    def _update(self, statement: str, *values: Any) -> None:
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


def remove(path: Path) -> None:
    """Remove a file; where another process reads it on Windows, the next start does."""
    with suppress(PermissionError):
        path.unlink(missing_ok=True)
