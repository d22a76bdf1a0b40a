"""Make old runs open again after this project's folder was moved or renamed.

``mlflow.db`` holds the artifacts' places as absolute paths. Run ``python relocate.py``
in the new place: it points them to this folder's ``mlruns``. Standard library only.
"""

import sqlite3
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
PLACES = {  # MLflow's tables and the columns that hold a path
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}


def relocate(database: Path, artifacts: Path) -> int:
    """Replace every path up to ``/mlruns/`` by the folder of the artifacts.

    Args:
        database: MLflow's SQLite file.
        artifacts: The folder ``mlruns`` as it is now.

    Returns:
        The number of paths that were changed.
    """
    changed = 0
    with sqlite3.connect(database) as db:
        for table, columns in PLACES.items():
            for column in columns:
                rows = db.execute(f"SELECT DISTINCT {column} FROM {table}")
                for (old,) in rows.fetchall():
                    start, mark, rest = (old or "").rpartition("/mlruns/")
                    if not mark or "://" in start.removeprefix("file://"):
                        continue
                    scheme = "file://" if start.startswith("file://") else ""
                    new = f"{scheme}{artifacts.as_posix()}/{rest}"
                    if new != old:
                        change = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
                        changed += db.execute(change, (new, old)).rowcount
    return changed


if __name__ == "__main__":
    store = PROJECT / "mlflow.db"
    if not store.is_file():
        sys.exit(f"There is no {store}: nothing to relocate.")
    print(f"{relocate(store, PROJECT / 'mlruns')} paths now lead to {PROJECT}/mlruns")
