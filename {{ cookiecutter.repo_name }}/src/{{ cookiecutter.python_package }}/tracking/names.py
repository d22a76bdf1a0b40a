"""Names of tags, parameters and metrics, as MLflow takes them."""

import os
import re
from contextvars import ContextVar

from kedro.framework import project

MAX_NAME, MAX_VALUE, MAX_TAG = 250, 6000, 8000
MAX_PART = 200  # of a name to which something is added
COMMIT_TAG = "mlflow.source.git.commit"
NO_GIT_TAG = "git.unavailable"  # says why there is no commit
DIRTY_OUTSIDE_TAG = "git.dirty_outside"  # files beside the project have changed
PARENT_TAG = "mlflow.parentRunId"
ENTRY_POINT_TAG = "mlflow.project.entryPoint"  # of a run that `mlflow run` has opened
MISSING_TAG = "record.missing"  # lists what could not be logged
PACKAGE_VARIABLE = "KEDRO_PACKAGE_NAME"  # the project's package, for spawned workers
node_namespace: ContextVar[str | None] = ContextVar("namespace", default=None)


def project_package() -> str:
    """Return the name of the project's package, of which this one need not be a part.

    Kedro forgets it in workers that are spawned; the hook passes it on.
    """
    known = project.PACKAGE_NAME or os.environ.get(PACKAGE_VARIABLE)
    return known or __name__.partition(".")[0]


def clean_name(name: str) -> str:
    """Return a name as MLflow takes it: cut, with ``_`` for other characters."""
    parts = re.sub(r"[^\w.\- /]", "_", name)[:MAX_NAME].split("/")
    return "/".join(part for part in parts if part.strip(". ")).strip(". ") or "_"


def data_tag(name: str, what: str) -> str:
    """Return the name of a tag about a dataset: ``data.NAME.WHAT``."""
    return f"data.{clean_name(name)[:MAX_PART]}.{what}"


def with_namespace(name: str) -> str:
    """Prefix a name with the namespace of the running node."""
    return clean_name(".".join(filter(None, (node_namespace.get(), name))))


def quoted(text: str) -> str:
    """Return a text for a filter of MLflow; empty if it has both kinds of quotes."""
    marks = [mark for mark in ("'", '"') if mark not in text]
    return f"{marks[0]}{text}{marks[0]}" if marks else ""
