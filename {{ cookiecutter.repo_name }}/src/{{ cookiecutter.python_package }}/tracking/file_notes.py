"""Notes beside data files: which run uses a file, and which run wrote it last.

Each data file may have a note, in JSON, and a lock (see ``data_locks``) in the folder
``.locks`` beside it.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = ".locks"
# Windows neither replaces nor opens a file while another process does either.
SHARING_TRIES = 40 if os.name == "nt" else 1
Signature = tuple[int, int]  # size in bytes, time of the last change in nanoseconds

logger = logging.getLogger(__name__)


def resolve(path: Path) -> Path:
    """Return the canonical path of a file."""
    return Path(os.path.normcase(os.path.realpath(path)))


def signature(path: Path) -> Signature | None:
    """Return size and time of a file, which change when it is written."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


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


def note_file(path: Path) -> Path:
    """Return the file that holds the note of a data file."""
    return path.parent / FOLDER / f"{path.name}.json"


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of a data file; nothing where there is none."""
    try:
        note = json.loads(retry_sharing(note_file(path).read_text, "utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


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
