"""What a run was made from: parameters, data, code, environment; and what it saved."""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import subprocess
import sys
import traceback
import warnings
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from kedro.runner import Task
from omegaconf import OmegaConf

from . import tracking

LONGEST_NAME, LONGEST_VALUE, LONGEST_TAG = 250, 6000, 8000
SECRET = re.compile(r"(^|[._-])(password|passwd|secret|token|api_?key|credentials?)$")

logger = logging.getLogger(__name__)


def identity(run_params: dict[str, Any], project: Path, env: str) -> dict[str, str]:
    """Return the tags that say what made a run."""
    runner = re.search(r"(\w+) object at", str(run_params["runner"]))
    filters = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs")
    return {
        "kedro.run_id": run_params["run_id"],
        "kedro.session_id": run_params.get("session_id") or run_params["run_id"],
        "kedro.version": run_params["kedro_version"],
        "kedro.env": env,
        "kedro.pipeline": ",".join(run_params["pipeline_names"] or ["__default__"]),
        "kedro.runner": runner[1] if runner else "SequentialRunner",
        **{f"kedro.{f}": ",".join(run_params[f]) for f in filters if run_params[f]},
        "python.executable": sys.executable,
        "python.version": platform.python_version(),
        **git_state(project),
    }


def git_state(project: Path) -> dict[str, str]:
    """Return the commit and whether files differ from it; nothing outside of git."""

    def git(*words: str) -> subprocess.CompletedProcess:
        command = ["git", "-C", str(project), *words]
        return subprocess.run(command, capture_output=True, text=True)

    try:
        commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except FileNotFoundError:  # git is not installed
        return {}
    if commit.returncode:
        return {}
    return {
        "mlflow.source.git.commit": commit.stdout.strip(),
        "git.dirty": str(bool(status.stdout)).lower(),
    }


def flatten(parameters: dict[str, Any]) -> dict[str, str]:
    """Turn nested parameters into MLflow's: dotted names, values as text.

    A list is one value. Characters that MLflow refuses in names become ``_``, long
    names and values are cut, and values of names like ``password`` are hidden.
    """
    flat: dict[str, str] = {}
    todo = list(reversed(parameters.items()))
    while todo:
        name, value = todo.pop()
        value = value.model_dump() if hasattr(value, "model_dump") else value
        if isinstance(value, dict) and value:
            todo += [(f"{name}.{key}", child) for key, child in reversed(value.items())]
            continue
        text = "***" if SECRET.search(str(name).lower()) else str(value)
        name = re.sub(r"[^\w.\- ]", "_", str(name)).strip(". ")[:LONGEST_NAME] or "_"
        while name in flat:
            name = name[: LONGEST_NAME - 1] + "_"
        flat[name] = text[:LONGEST_VALUE]
    return flat


def parse(text: str) -> Any:
    """Read a parameter as Kedro reads it from the command line: ``1e-2`` is 0.01."""
    try:
        return OmegaConf.from_dotlist([f"value={text}"])["value"]
    except Exception:  # not YAML: a text
        return text


def record_origin(
    run_id: str, tags: dict[str, str], pipeline: Any, catalog: Any
) -> None:
    """Log parameters, tags, input data and installed packages.

    A parameter that is on the run with another value already, because the caller
    logged it, is logged under its name and Kedro's run id.
    """
    import mlflow
    from mlflow.entities import Param, RunTag

    client = mlflow.MlflowClient()
    parameters = flatten(catalog.load("parameters"))
    for name, text in client.get_run(run_id).data.params.items():
        if name in parameters:
            ours = parameters.pop(name)
            if parse(ours) != parse(text):
                other = f"{name[:200]}.{tags['kedro.run_id']}"
                logger.warning(
                    "Parameter %s is on the MLflow run as %s; the pipeline's value "
                    "%s is logged as %s.", name, text, ours, other,
                )  # fmt: skip
                parameters[other] = ours
    client.log_batch(
        run_id,
        params=[Param(*item) for item in parameters.items()],
        tags=[RunTag(*item) for item in tags.items()],
        synchronous=True,  # a thread that logs would not survive a fork
    )
    for name in sorted(pipeline.inputs()):
        if file := catalog_file(name, catalog, catalog_version(name, catalog)):
            described = dataset(name, file[0])
            tracking.insist(mlflow.log_input, described, context="input")
            log_file(run_id, *file)
    read = (distribution.metadata for distribution in distributions())  # parsed once
    found = {(about["Name"], about["Version"]) for about in read}
    packages = "".join(f"{name}=={version}\n" for name, version in sorted(found))
    client.log_text(run_id, packages, "environment/packages.txt")


def catalog_version(name: str, catalog: Any) -> str | None:
    """Return the version that a versioned dataset is loaded with, if there is one."""
    try:
        return getattr(catalog.get(name), "resolve_load_version", lambda: None)()
    except DatasetError:  # the node that loads it will say so
        return None


def catalog_file(
    name: str, catalog: Any, version: str | None
) -> tuple[Path, dict[str, Any]] | None:
    """Return a dataset's local file and its ``metadata: mlflow:``, if it has a file."""
    config = catalog.config_resolver.resolve_pattern(name)
    path = Path(str(config.get("filepath", "")).removeprefix("file://"))
    if config.get("versioned") and version:
        path = path / version / path.name
    settings = (config.get("metadata") or {}).get("mlflow") or {}
    return (path, settings) if path.is_file() else None


def dataset(name: str, path: Path) -> Any:
    """Describe an input file: where it is, and the MD5 digest of its bytes."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    with warnings.catch_warnings():  # MLflow has two names for a local source
        warnings.simplefilter("ignore", UserWarning)
        source = resolve_dataset_source(path.as_uri())
    return MetaDataset(source, name=name, digest=digest.hexdigest())


def log_file(run_id: str, path: Path, settings: dict[str, Any]) -> None:
    """Log a file as an artifact, if its catalog entry asks for it."""
    from mlflow import MlflowClient

    if "artifact_path" not in settings:
        return
    if path.stat().st_size > settings.get("max_mb", float("inf")) * 1e6:
        logger.info("%s is over max_mb: not logged as an artifact", path.name)
        return
    MlflowClient().log_artifact(run_id, str(path), settings["artifact_path"] or None)


def record_outputs(run_id: str, kedro_id: str, since: float, pipeline, catalog) -> None:
    """Log the files that the pipeline has saved and whose entries ask for it."""
    for name in sorted(pipeline.all_outputs()):
        file = catalog_file(name, catalog, kedro_id)
        if file and file[0].stat().st_mtime >= since - 2:  # coarse clocks
            log_file(run_id, *file)


def record_failure(run_id: str, error: BaseException, pipeline, catalog) -> None:
    """Log the failed node, the error and its full traceback."""
    from mlflow import MlflowClient

    client = MlflowClient()
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    node = failed_node(error, text, pipeline, catalog)
    client.set_tag(run_id, "failure.node", node or "unknown", synchronous=True)
    message = f"{type(error).__name__}: {error}"
    client.set_tag(run_id, "failure.error", message[:LONGEST_TAG], synchronous=True)
    client.log_text(run_id, text, "failure/traceback.txt")


def failed_node(error: BaseException, text: str, pipeline, catalog) -> str | None:
    """Return the node that raised, or whose input could not be loaded.

    An error from a worker process has lost its frames; there, the node is found by its
    function's or its dataset's name in the text.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(task := frame.f_locals.get("self"), Task):
            return task.node.name
    for node in pipeline.nodes:
        data = {*node.inputs, *node.outputs}
        signs = [f"dataset '{name}'" for name in data]
        signs += [str(catalog.get(name)) for name in data]
        if any(sign in text for sign in (f", in {node.func.__name__}\n", *signs)):
            return node.name
    return None
