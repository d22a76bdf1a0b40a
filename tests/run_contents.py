"""All that a store says of a run, to compare it with its copy in another store."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

# What a copy has of its own, or does not take along.
OF_ONE_STORE = re.compile(
    r"origin\.|mlflow\.(user|source\.name|parentRunId)$|python\.executable$"
)


def run_contents(uri: str, run_id: str) -> dict[str, Any]:
    """Return what the store at an address says of a run, its models and child runs."""
    client = MlflowClient(uri, uri)
    run = client.get_run(run_id)
    info, data = run.info, run.data
    history = [client.get_metric_history(run_id, name) for name in data.metrics]
    used = [entry.dataset.to_dictionary() for entry in run.inputs.dataset_inputs]
    models = [client.get_logged_model(o.model_id) for o in run.outputs.model_outputs]
    own = f"tags.`mlflow.parentRunId` = '{run_id}'"
    ids = [c.info.run_id for c in client.search_runs([info.experiment_id], own)]
    has_files = bool(client.list_artifacts(run_id))
    return {
        "info": [info.run_name, info.status, info.start_time, info.end_time],
        "params": data.params,
        "tags": {k: v for k, v in data.tags.items() if not OF_ONE_STORE.match(k)},
        "metrics": values(sum(history, [])),
        "data": [dataset | {"source": ""} for dataset in used],
        "files": checksums(uri, info.artifact_uri) if has_files else {},
        "models": sorted((model_contents(uri, model) for model in models), key=str),
        "steps": [output.step for output in run.outputs.model_outputs],
        "children": sorted((run_contents(uri, child) for child in ids), key=str),
    }


def model_contents(uri: str, model: Any) -> list:
    """Return what a store says of a logged model."""
    measured, files = (
        values(model.metrics or ()),
        checksums(uri, model.artifact_location),
    )
    return [model.name, str(model.status), model.params, measured, files]


def values(metrics: Iterable) -> list[str]:
    """Return metrics with their times and steps."""
    return sorted(str((m.key, m.value, m.timestamp, m.step)) for m in metrics)


def checksums(uri: str, place: str) -> dict[str, str]:
    """Return checksums of artifacts; a model's description says where it is."""
    folder = Path(download_artifacts(place, tracking_uri=uri))
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    found.pop("MLmodel", None)
    return {name: hashlib.md5(content).hexdigest() for name, content in found.items()}
