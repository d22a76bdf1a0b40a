"""SQL stores: addresses, locks, retries, and the paths in a store that was moved."""

import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

DATABASES = ("postgresql", "mysql", "mssql")
LOCK_SQL = {
    "postgresql": "SELECT pg_advisory_lock(hashtext('mlflow'))",
    "mysql": "SELECT GET_LOCK('mlflow', 300)",
}
# What MLflow says when a constraint of the database or its lock stops a statement.
CONFLICT_CODES = ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
# The tables and columns in which a store keeps the absolute paths of artifacts.
ARTIFACT_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
RELOCATE_SQL = """
UPDATE {table} SET {column} = :new || substr({column}, :rest)
    WHERE instr({column}, :old) = 1
"""

logger = logging.getLogger(__name__)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for other addresses."""
    file = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    return Path(file[1]) if file else None


def open_lock(file: Path, timeout: float) -> sqlite3.Connection:
    """Open a SQLite file that is used as a lock, by any thread, with own transactions.

    The time-out is in seconds: how long to wait while another process has locked it.
    """
    options: Any = {"isolation_level": None, "check_same_thread": False}
    return sqlite3.connect(file, timeout=timeout, **options)


@contextmanager
def database_lock(uri: str) -> Iterator[None]:
    """Let one process at a time use a database: MLflow creates tables without a lock.

    The lock dies with its process. A database server has five seconds to answer;
    MLflow itself would wait for two minutes.
    """
    if file := sqlite_file(uri):
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(open_lock(Path(f"{file}.lock"), timeout=300)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield
    elif uri.startswith(DATABASES):
        from sqlalchemy import create_engine, pool, text

        limit = {"timeout" if uri.startswith("mssql") else "connect_timeout": 5}
        # Without a pool, closing the connection ends it, and so frees the lock.
        engine = create_engine(uri, poolclass=pool.NullPool, connect_args=limit)
        with engine.connect() as connection:
            connection.execute(text(LOCK_SQL.get(engine.dialect.name, "SELECT 1")))
            yield
    else:
        yield


def retry_on_conflict(call: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call MLflow, up to three times if another process has just written the row."""
    from mlflow.exceptions import MlflowException

    for last in (False, False, True):
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if last or error.error_code not in CONFLICT_CODES:
                raise
            time.sleep(0.2)


def relocate_artifacts(file: Path, project: Path) -> None:
    """Update the artifact paths of a store that was moved or copied with its project.

    MLflow keeps absolute paths. Those below the folder where the store was last used
    now start at this folder; all others stay, for they were the owner's choice.
    """
    with closing(sqlite3.connect(file, timeout=300)) as db, db:
        made = "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
        if not db.execute(made).fetchone():  # MLflow has not created all tables yet
            return
        known = "SELECT value FROM experiment_tags WHERE key = 'project.folder'"
        folders = {folder for (folder,) in db.execute(known)}
        if folders == {str(project)}:
            return
        for old in folders - {str(project)}:
            for was, now in zip(beginnings(old), beginnings(str(project)), strict=True):
                paths = {"old": was, "new": now, "rest": len(was) + 1}
                for table, column in ARTIFACT_PATHS:
                    db.execute(RELOCATE_SQL.format(table=table, column=column), paths)
            logger.info("The store has moved here from %s: its runs open again.", old)
        db.execute("DELETE FROM experiment_tags WHERE key = 'project.folder'")
        db.execute(
            "INSERT INTO experiment_tags (key, value, experiment_id)"
            " SELECT 'project.folder', ?, experiment_id FROM experiments LIMIT 1",
            [str(project)],
        )


def beginnings(folder: str) -> tuple[str, str]:
    """Return how the addresses of files in a folder begin: as paths, and as URIs.

    The folder may be one of another system, for a store may be carried there.
    """
    posix = PurePosixPath(folder)
    path: PurePath = posix if posix.is_absolute() else PureWindowsPath(folder)
    separator = "/" if path is posix else "\\"
    return f"{path}{separator}", f"{path.as_uri()}/"
