"""The MLflow run of a pipeline run: opened or joined, and ended truthfully."""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import catalog_files, code, data_locks, environment, parameters, recovery

logger = logging.getLogger(__name__)


@dataclass
class ActiveRun:
    """The MLflow run of a pipeline run that is under way."""

    mlflow_id: str
    # "us"; "mlflow run"; "caller", in this process; or "other", by MLFLOW_RUN_ID
    opened_by: str
    pipeline: Any
    catalog: Any
    started: float  # in seconds since 1970, before it was opened
    locks: data_locks.DataLocks
    made_again: bool = False  # because the answer was late: there may be a twin
    entry: recovery.PendingRun | None = None
    inputs: dict[str, catalog_files.DataFile | None] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    lazy: set[str] = field(default_factory=set)  # inputs that nodes read in chunks
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)


def run_tags(
    run_params: dict[str, Any], pipeline: Any, project: Path, env: str
) -> dict[str, str]:
    """Return the tags that say what made a run."""
    namespaces = {node.namespace for node in pipeline.nodes if node.namespace}
    runner = re.search(r"(\w+) object at", str(run_params["runner"]))
    return {
        "kedro.run_id": run_params["run_id"],
        "kedro.session_id": run_params.get("session_id") or run_params["run_id"],
        "kedro.version": run_params["kedro_version"],
        "kedro.env": env,
        "kedro.pipeline": ",".join(run_params["pipeline_names"] or ["__default__"]),
        "kedro.runner": runner[1] if runner else "SequentialRunner",
        **{
            f"kedro.{f}": ",".join(run_params[f]) for f in code.FILTERS if run_params[f]
        },
        **({"kedro.namespaces": ",".join(sorted(namespaces))} if namespaces else {}),
        "python.executable": sys.executable,
        "python.version": platform.python_version(),
        **code.git_state(project),
    }


def log_provenance(
    run: Any,
    tags: dict[str, str],
    params: dict[str, str],
    artifacts: dict[str, bytes],
) -> None:
    """Log parameters, tags and what repeats the run on an MLflow run.

    A parameter that is on the run with another value already, because the caller
    logged it, is logged under its name and Kedro's run id.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    client, run_id = MlflowClient(), run.info.run_id
    for name, text in run.data.params.items():
        if name in params:
            ours = params.pop(name)
            if parameters.parse_value(ours) != parameters.parse_value(text):
                other = f"{name[:200]}.{tags['kedro.run_id']}"
                logger.warning(
                    "Parameter %s is on the MLflow run as %s; the pipeline's value "
                    "%s is logged as %s.", name, text, ours, other,
                )  # fmt: skip
                params[other] = ours
    client.log_batch(
        run_id,
        params=[Param(*item) for item in params.items()],
        tags=[RunTag(*item) for item in (tags.items() - run.data.tags.items())],
        synchronous=True,  # a thread that logs would not survive a fork
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifacts.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder, code.FOLDER)


def joined_runs() -> set[str]:
    """Return the ids of the MLflow runs that a pipeline run would join."""
    found = {environment.user_env("MLFLOW_RUN_ID")}
    if mlflow := sys.modules.get("mlflow"):
        if active := mlflow.active_run():
            found |= {active.info.run_id, active.data.tags.get("mlflow.parentRunId")}
    return {run_id for run_id in found if run_id}


def end_active(run_id: str, above: str, ours: str | None) -> bool:
    """End this thread's active runs down to one; return whether it was among them.

    Args:
        run_id: The MLflow run to stop at.
        above: The status of nested runs that a node has left open.
        ours: The status of the run itself; None leaves it active.
    """
    import mlflow

    if not (active := mlflow.active_run()):
        return False
    if active.info.run_id == run_id:
        if ours:
            mlflow.end_run(ours)
        return True
    try:
        mlflow.end_run(above)
    finally:  # it is off the stack all the same
        found = end_active(run_id, above, ours)
    return found


def exit_on_sigterm(signum: int, _frame) -> None:
    """Leave as after ``sys.exit``, so that open runs are ended; stop the workers."""
    for child in multiprocessing.active_children():
        child.terminate()
    raise SystemExit(128 + signum)
