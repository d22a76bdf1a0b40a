"""A run's files are its own while it runs.

Kedro hands data from node to node through the catalog's files, so two runs in one
folder would read each other's. Before a run is opened, it locks each local file that it
writes (for itself) and each that it reads and a run has written (shared with other
readers). A lock is an empty SQLite file, which works between processes, threads and
systems, and is free when its process dies. Notes say which run holds it.
"""

import itertools
import logging
import os
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from click import ClickException

from . import database, environment, names
from .file_notes import FOLDER, read_note, resolve, signature, write_note

PROCESS_TOKEN = uuid.uuid4().hex
POLL_SECONDS = 0.1
HOLDERS_VARIABLE = "KEDRO_LOCK_HOLDERS"  # the runs that this process runs within
TIMEOUT_VARIABLE = "KEDRO_LOCK_TIMEOUT"  # seconds; overrides lock_timeout of mlflow.yml

logger = logging.getLogger(__name__)


def process_name() -> str:
    """Return a unique name of this process; ids repeat across containers."""
    return f"{PROCESS_TOKEN}-{os.getpid()}"


def lock_file(path: Path) -> Path:
    """Return the file that is locked for a data file."""
    return path.parent / FOLDER / f"{path.name}.lock"


def read_holders() -> list[str]:
    """Return the runs that this process runs within, as ``PROCESS:RUN``."""
    return [entry for entry in os.environ.get(HOLDERS_VARIABLE, "").split(",") if entry]


def write_holders(entries: list[str]) -> None:
    """Tell processes that a node starts which runs they run within."""
    os.environ[HOLDERS_VARIABLE] = ",".join(entries)
    if not entries:
        del os.environ[HOLDERS_VARIABLE]


def joined_runs() -> set[str]:
    """Return the ids of the MLflow runs that a pipeline run would join."""
    found = {environment.user_env("MLFLOW_RUN_ID")}
    mlflow = sys.modules.get("mlflow")
    if active := mlflow and mlflow.active_run():
        found |= {active.info.run_id, active.data.tags.get(names.PARENT_TAG)}
    return {run_id for run_id in found if run_id}


def read_timeout(config: Mapping[str, Any]) -> float | None:
    """Return how many seconds a run waits for files; None: no limit."""
    value = os.environ.get(TIMEOUT_VARIABLE) or config.get("lock_timeout")
    try:
        return None if value is None else float(value)
    except ValueError:
        raise ClickException(
            f"{TIMEOUT_VARIABLE} or lock_timeout in mlflow.yml is no number: {value!r}"
        ) from None


class DataLocks:
    """The locks of one pipeline run, on the local files that it writes and reads.

    It does not wait for the locks of the MLflow runs that it has ``joined``, for they
    wait for it.
    """

    def __init__(
        self, writes: Iterable[Path], reads: Iterable[Path], joined: Iterable[str]
    ) -> None:
        self._writes = {resolve(path) for path in writes}
        written_by_a_run = {p for p in map(resolve, reads) if lock_file(p).exists()}
        self._files = sorted(self._writes | written_by_a_run)
        outer = (entry.split(":") for entry in read_holders())
        self._joined = {*joined, *(r for where, r in outer if where != process_name())}
        self._locked: dict[Path, sqlite3.Connection] = {}
        self._before: dict[Path, tuple[int, int] | None] = {}
        self._holder: dict[str, Any] = {}
        self._said_that_it_waits = self._warned = False

    def acquire(self, timeout: float | None) -> None:
        """Lock all files, in one order for all runs, or none.

        Raises:
            ClickException: A file was in use for longer than ``timeout`` seconds; says
                by which run. None waits for as long as it takes.
        """
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        thread = f"{process_name()}:{threading.get_ident()}"
        self._holder = {"run_id": None, "thread": thread, "since": time.time()}
        try:
            for path in self._files:
                self._wait_for(path, until)
        except BaseException:
            self._unlock()
            raise
        self._before = {path: signature(path) for path in self._writes}
        for path in self._locked.keys() - self._writes:
            write_note(path, {"written_by": read_note(path).get("written_by")})

    def name_run(self, run_id: str) -> None:
        """Write the run's id into the notes, and into the environment."""
        self._holder["run_id"] = run_id
        for path in self._writes & self._locked.keys():
            write_note(path, {**read_note(path), "holder": self._holder})
        write_holders([*read_holders(), f"{process_name()}:{run_id}"])

    def written(self) -> list[Path]:
        """Return the files that this run has written: they have changed meanwhile."""
        before = self._before.items()
        return [path for path, was in before if signature(path) not in (was, None)]

    def release(self, versioned: Iterable[Path] = ()) -> None:
        """Note which files this run has written, also ``versioned`` ones; unlock."""
        run_id = self._holder.get("run_id")
        written = {*self.written(), *versioned} if run_id else set()
        for path in written | (self._writes & self._locked.keys()):
            note = read_note(path)
            if path in written:
                note["written_by"] = {"run_id": run_id, "signature": signature(path)}
            if path in self._locked:
                note["holder"] = None
            write_note(path, note)
        self._unlock()
        self._before.clear()
        entries, ours = read_holders(), f"{process_name()}:{run_id}"
        if ours in entries:
            entries.remove(ours)  # only once: a run within this one has added it, too
            write_holders(entries)

    def _wait_for(self, path: Path, until: float) -> None:
        """Lock a file as soon as it is free."""
        for tries in itertools.count():
            if self._try_lock(path) or self._is_held_by_us(path):
                return
            if time.monotonic() >= until:
                raise ClickException(
                    f"{self._describe(path)} -- wait for it, or give each run files of "
                    "its own: versioned datasets (docs/make-it-yours.md, Side by side)"
                )
            named = read_note(path).get("holder") or tries > 50
            if named and not self._said_that_it_waits:  # the note comes a moment later
                self._said_that_it_waits = True
                logger.info(
                    "Waiting: %s. Versioned datasets let runs work side by side "
                    "(docs/make-it-yours.md).",
                    self._describe(path),
                )
            time.sleep(POLL_SECONDS)

    def _try_lock(self, path: Path) -> bool:
        """Lock a file if it is free; continue unlocked where locks do not work."""
        file, db = lock_file(path), None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            db = database.open_lock(file, timeout=0)
            db.execute("PRAGMA journal_mode = OFF")  # it would be another file
            if path in self._writes:
                db.execute("BEGIN EXCLUSIVE")
            else:
                db.execute("BEGIN")
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (OSError, sqlite3.Error) as error:
            if db:
                db.close()
            if "locked" in str(error):
                return False
            if not self._warned:
                logger.warning(
                    "Cannot lock %s (%s): runs at the same time would mix their data.",
                    *(path, error),
                )
            self._warned = True
        else:
            self._locked[path] = db
        return True

    def _is_held_by_us(self, path: Path) -> bool:
        """Tell whether the run that this one runs within holds the lock."""
        holder = read_note(path).get("holder") or {}
        ours = holder.get("thread") == self._holder["thread"]
        return ours or holder.get("run_id") in self._joined

    def _describe(self, path: Path) -> str:
        holder = read_note(path).get("holder")
        if not holder:
            return f"{path} is in use by another run"
        since = datetime.fromtimestamp(holder["since"])
        return f"{path} is in use by run {holder['run_id']}, since {since:%H:%M:%S}"

    def _unlock(self) -> None:
        while self._locked:
            self._locked.popitem()[1].close()
