"""The failure of a run: node, error and traceback."""

import traceback
from typing import Any

from kedro.runner import Task
from mlflow import MlflowClient
from mlflow.entities import RunTag

from . import names, redact


def describe_failure(
    error: BaseException, pipeline: Any, catalog: Any
) -> dict[str, str]:
    """Return the failed node, the error and its full traceback, without secrets."""
    text = "".join(traceback.format_exception(error))
    summary = f"{type(error).__name__}: {error}"
    return {
        "failure.node": failed_node(error, text, pipeline, catalog),
        "failure.error": redact.mask(summary)[: names.MAX_TAG],
        "traceback": redact.traceback(text),
    }


def log_failure(run_id: str, failure: dict[str, str]) -> None:
    """Log the result of ``describe_failure`` as tags and an artifact."""
    tags = [RunTag(*item) for item in failure.items() if item[0] != "traceback"]
    MlflowClient().log_batch(run_id, tags=tags, synchronous=True)
    if text := failure.get("traceback"):
        MlflowClient().log_text(run_id, text, "failure/traceback.txt")


def failed_node(error: BaseException, text: str, pipeline, catalog) -> str:
    """Return the node that raised, or whose data could not be loaded or saved.

    An error from a worker process has lost its frames; there, the node is found by its
    function or its data in the text.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(task := frame.f_locals.get("self"), Task):
            return task.node.name
    for node in pipeline.nodes:
        signs = [f", in {node.func.__name__}\n"]
        for name in (*node.inputs, *node.outputs):
            config = catalog.config_resolver.resolve_pattern(name)
            signs += [f"dataset '{name}'", str(config.get("filepath", f"'{name}'"))]
        if any(sign in text for sign in signs):
            return node.name
    return "unknown"
