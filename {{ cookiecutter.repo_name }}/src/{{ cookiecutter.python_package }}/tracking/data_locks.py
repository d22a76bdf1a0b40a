"""A run's files are its own while it runs, and say afterwards which run wrote them.

Kedro hands data from node to node through the catalog's files, so two runs in one
folder would read each other's. Before a run is opened, it locks each local file that it
writes (for itself) and each that it reads and a run has written (shared with other
readers). In the folder ``.locks`` beside the data, each file has a lock and a note. The
lock is an empty SQLite file, which works between processes, threads and systems, and is
free when its process dies. The note, in JSON, names the run that holds the lock, and
the run that wrote the file last.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from click import ClickException

PROCESS_TOKEN = uuid.uuid4().hex
POLL_SECONDS = 0.1  # seconds
HOLDERS_VARIABLE = "KEDRO_LOCK_HOLDERS"  # the runs that this process runs within
TIMEOUT_VARIABLE = "KEDRO_LOCK_TIMEOUT"  # seconds; overrides lock_timeout of mlflow.yml
FOLDER = ".locks"
# Windows neither replaces nor opens a file while another process does either.
SHARING_TRIES = 40 if os.name == "nt" else 1
Signature = tuple[int, int]  # size in bytes, time of the last change in nanoseconds

logger = logging.getLogger(__name__)


def process_name() -> str:
    """Return a unique name of this process; ids repeat across containers."""
    return f"{PROCESS_TOKEN}-{os.getpid()}"


def writing_run(path: Path) -> str | None:
    """Return the id of the MLflow run that wrote a file.

    Returns:
        None if no run is known; ``changed since run ID`` if the file is not as that
        run left it.
    """
    path = resolve(path)
    note = read_note(path).get("written_by")
    if not note:
        return None
    unchanged = [*(signature(path) or ())] == note["signature"]
    return note["run_id"] if unchanged else f"changed since run {note['run_id']}"


def lock_file(path: Path) -> Path:
    """Return the file that is locked for a data file."""
    return path.parent / FOLDER / f"{path.name}.lock"


def note_file(path: Path) -> Path:
    """Return the file that says which run uses, or has written, a data file."""
    return path.parent / FOLDER / f"{path.name}.json"


def signature(path: Path) -> Signature | None:
    """Return size and time of a file, which change when it is written."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of a data file; nothing where there is none."""
    try:
        note = json.loads(retry_sharing(note_file(path).read_text, "utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def read_timeout(config: Mapping[str, Any]) -> float | None:
    """Return how many seconds a run waits for files; None: no limit.

    Raises:
        ClickException: The setting is no number.
    """
    value = os.environ.get(TIMEOUT_VARIABLE) or config.get("lock_timeout")
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        message = (
            f"{TIMEOUT_VARIABLE} or lock_timeout in mlflow.yml is no number: {value!r}"
        )
        raise ClickException(message) from None


class DataLocks:
    """The locks of one pipeline run.

    Args:
        writes: The local files that it will write.
        reads: The local files that it will read, and does not write before.
        joined: The ids of the MLflow runs that it runs within: it does not wait for
            their locks, for they wait for it.
    """

    def __init__(
        self, writes: Iterable[Path], reads: Iterable[Path], joined: Iterable[str]
    ) -> None:
        self._writes = {resolve(path) for path in writes}
        written_by_a_run = {p for p in map(resolve, reads) if lock_file(p).exists()}
        self._files = sorted(self._writes | written_by_a_run)
        outer = os.environ.get(HOLDERS_VARIABLE, "").split(",")
        started_within = (entry.split(":") for entry in outer if entry)
        others = {run for where, run in started_within if where != process_name()}
        self._joined = {*joined, *others}
        self._locked: dict[Path, sqlite3.Connection] = {}
        self._warned = False
        self._before: dict[Path, Signature | None] = {}
        self._holder: dict[str, Any] = {}

    def acquire(self, timeout: float | None) -> None:
        """Lock all files, in one order for all runs, or none.

        Args:
            timeout: For how many seconds to wait; None for as long as it takes.

        Raises:
            ClickException: A file was in use for longer; says by which run.
        """
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        thread = f"{process_name()}:{threading.get_ident()}"
        self._holder = {"run_id": None, "thread": thread, "since": time.time()}
        tries, said = 0, False
        try:
            for path in self._files:
                while not (self._try_lock(path) or self._is_held_by_us(path)):
                    if time.monotonic() >= until:
                        raise ClickException(
                            f"{self._describe(path)} -- wait for it, or give each run "
                            "files of its own: versioned datasets "
                            "(docs/make-it-yours.md, Side by side)"
                        )
                    tries += 1
                    named = read_note(path).get("holder") or tries > 50
                    if named and not said:  # it takes a moment to have a name
                        said = True
                        logger.info(
                            "Waiting: %s. Versioned datasets let runs work side by "
                            "side (docs/make-it-yours.md).",
                            self._describe(path),
                        )
                    time.sleep(POLL_SECONDS)
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
        within = os.environ.get(HOLDERS_VARIABLE, "").split(",")
        os.environ[HOLDERS_VARIABLE] = ",".join(
            filter(None, (*within, f"{process_name()}:{run_id}"))
        )

    def written(self) -> list[Path]:
        """Return the files that this run has written: they have changed meanwhile."""
        now = {path: signature(path) for path in self._before}
        return [
            path for path, was in self._before.items() if now[path] not in (was, None)
        ]

    def release(self, versioned: Iterable[Path] = ()) -> None:
        """Note which files this run has written, and unlock them.

        Args:
            versioned: Files that it has written besides, which need no lock.
        """
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
        within = os.environ.get(HOLDERS_VARIABLE, "").split(",")
        if (ours := f"{process_name()}:{run_id}") in within:
            within.remove(ours)  # once: a run within this one has said it, too
            os.environ[HOLDERS_VARIABLE] = ",".join(within)
            if not within:
                del os.environ[HOLDERS_VARIABLE]

    def _try_lock(self, path: Path) -> bool:
        """Lock a file if it is free; continue unlocked where locks do not work."""
        file = lock_file(path)
        db = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            options: Any = {"isolation_level": None, "check_same_thread": False}
            db = sqlite3.connect(file, timeout=0, **options)
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
            return True
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
        run = f"run {holder['run_id']}"
        return f"{path} is in use by {run}, since {since:%H:%M:%S}"

    def _unlock(self) -> None:
        while self._locked:
            _, db = self._locked.popitem()
            db.close()


def resolve(path: Path) -> Path:
    """Return the canonical path of a file."""
    return Path(os.path.normcase(os.path.realpath(path)))


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Replace the note of a data file; without content, it is removed."""
    file = note_file(path)
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    note = {key: value for key, value in note.items() if value}
    try:
        if note:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(note), "utf-8")
            retry_sharing(part.replace, file)
        else:
            retry_sharing(file.unlink, True)
    except OSError as error:
        part.unlink(missing_ok=True)
        logger.warning("Cannot write %s: %s", file, error)


def retry_sharing(call: Callable, *args: Any) -> Any:
    """Call a function of a file; again while another process has the file open."""
    for left in reversed(range(SHARING_TRIES)):
        try:
            return call(*args)
        except PermissionError:
            if not left:
                raise
            time.sleep(0.05)
