"""Make old runs open again after this project's folder was moved or renamed.

``mlflow.db`` holds the artifacts' places as absolute paths. Run ``python relocate.py``
in the new place: it points them to this folder's ``mlruns``. Standard library only.
"""

import sqlite3
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
UPDATES = """
UPDATE experiments SET artifact_location = moved(artifact_location);
UPDATE runs SET artifact_uri = moved(artifact_uri);
UPDATE logged_models SET artifact_location = moved(artifact_location);
UPDATE model_versions SET source = moved(source);
UPDATE model_versions SET storage_location = moved(storage_location);
"""


def relocate(database: Path, artifacts: Path) -> int:
    """Replace every path up to ``/mlruns/`` by the folder of the artifacts.

    Args:
        database: MLflow's SQLite file.
        artifacts: The folder ``mlruns`` as it is now.

    Returns:
        The number of paths that were changed.
    """
    changed = 0

    def moved(old: str | None) -> str | None:
        nonlocal changed
        start, mark, rest = (old or "").rpartition("/mlruns/")
        if not mark or "://" in start.removeprefix("file://"):
            return old
        scheme = "file://" if start.startswith("file://") else ""
        new = f"{scheme}{artifacts.as_posix()}/{rest}"
        changed += new != old
        return new

    with sqlite3.connect(database) as db:
        db.create_function("moved", 1, moved)
        for update in UPDATES.strip().splitlines():
            db.execute(update)
    return changed


if __name__ == "__main__":
    store = PROJECT / "mlflow.db"
    if not store.is_file():
        sys.exit(f"There is no {store}: nothing to relocate.")
    print(f"{relocate(store, PROJECT / 'mlruns')} paths now lead to {PROJECT}/mlruns")
