"""The record of a run, apart from any store: one reader, one check, one writer.

A record is MLflow's own messages of a run and its models, with the records of its child
runs; as JSON, and with a folder of artifacts that has the same shape.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from mlflow import MlflowClient, entities, search_runs
from mlflow.artifacts import download_artifacts
from mlflow.protos.service_pb2 import LoggedModel, Run

from .. import code, names, provenance, redact, registry, secret_names
from . import project_runs
from .project_runs import CommandError

USER_TAG = "mlflow.user"
STORE_LINK_TAGS = {
    names.PARENT_TAG,
    project_runs.INCOMPLETE_TAG,
    registry.VERSIONS_TAG,
}  # tags that lead to something of one store
END_STATUSES = ("FINISHED", "FAILED", "KILLED")
MAX_TIME = 253_402_300_800_000  # ms: the year 9999
# What belongs to one store, or to its owner.
STORE_FIELDS = {"artifact_uri", "creator_id", "experiment_id", "run_uuid", "user_id"}
READY, FAILED = entities.LoggedModelStatus.READY, entities.LoggedModelStatus.FAILED
# The folders before a file's name; an address is none.
FOLDERS = re.compile(
    r"(?<![\w.~…/\\:-])(?:file://)?(?:/|[A-Za-z]:[\\/])(?:[^\s/\\'\"<>|:,;]+[/\\])+"
)
MODEL_NAME = r"[^/:.%\"'\x00-\x1f\x7f-\x9f]{1,250}"
KEY = r"(?!/|\.\.?(/|$))[\w./: -]{1,250}"


class RunRecord(NamedTuple):
    """A run, the models that it has made in the order of its outputs, its children."""

    run: Any
    models: list[Any]
    children: list[RunRecord]


def make_portable(found: Any, project: Path, left: Set[str] = frozenset()) -> Any:
    """Return JSON without credentials, local folders and excluded fields.

    Args:
        found: A part of it.
        project: The project's folder, from where paths within are told.
        left: Names of fields, tags and parameters.
    """
    if isinstance(found, dict):
        kept = {
            k: make_portable(v, project, left)
            for k, v in found.items()
            if k not in left
        }
        text = isinstance(kept.get("value"), str)  # of a tag or parameter
        if text and secret_names.is_secret(kept.get("key", "")):
            kept["value"] = redact.HIDDEN
        return kept
    if isinstance(found, list):
        entries = (make_portable(entry, project, left) for entry in found)
        return [
            e for e in entries if not (isinstance(e, dict) and e.get("key") in left)
        ]
    if not isinstance(found, str):
        return found
    for here in (
        f"{project.as_uri()}/",
        f"{project.as_posix()}/",
        f"{project}{os.sep}",
    ):
        found = found.replace(here, "")
    return redact.mask(FOLDERS.sub("…/", found))


def read_record(
    run: Any, folder: Path, project: Path, with_user: bool
) -> dict[str, Any]:
    """Return a finished run as JSON; its artifacts go to a new folder."""
    client, tags = MlflowClient(), run.data.tags
    run_id, where = run.info.run_id, [run.info.experiment_id]
    if run.info.status not in END_STATUSES:
        raise CommandError(f"Run {run_id} has not ended yet.")
    tags.setdefault(project_runs.SOURCE_RUN_TAG, run_id)
    tags.setdefault(
        project_runs.SOURCE_EXPERIMENT_TAG, client.get_experiment(where[0]).name
    )
    (artifacts := folder / "artifacts").mkdir(parents=True)
    if client.list_artifacts(run_id):
        client.download_artifacts(run_id, "", str(artifacts))
    tags |= redact_artifacts(artifacts, project)
    messages = [run.to_proto()]
    del messages[0].data.metrics[:]
    for name in run.data.metrics:
        history = client.get_metric_history(run_id, name)
        messages[0].data.metrics.extend(value.to_proto() for value in history)
    for number, output in enumerate(run.outputs.model_outputs):
        messages.append(read_model(output.model_id, run_id, folder / f"model{number}"))
    found = [MessageToDict(m, preserving_proto_field_name=True) for m in messages]
    left = STORE_FIELDS | STORE_LINK_TAGS | (set() if with_user else {USER_TAG})
    about, *models = make_portable(found, project, left)
    children = []
    for number, child in enumerate(children_of(run_id, where)):
        children.append(
            read_record(child, folder / f"child{number}", project, with_user)
        )
    return {"run": about, "models": models, "children": children}


def redact_artifacts(artifacts: Path, project: Path) -> dict[str, str]:
    """Hide secrets in the reproduction artifacts; return the tags that change.

    An older version of the project hid fewer secrets.
    """
    for name in (
        f"{provenance.FOLDER}/{provenance.OPTIONS_FILE}",
        "failure/traceback.txt",
    ):
        if (file := artifacts / name).is_file():
            file.write_text(make_portable(file.read_text("utf-8"), project), "utf-8")
    changes = artifacts / provenance.FOLDER / code.DIFF_FILE
    text = changes.read_text("utf-8", "surrogateescape") if changes.is_file() else ""
    if (hidden := redact.diff(text)) == text:
        return {}
    changes.write_text(hidden, "utf-8", "surrogateescape")
    return {"git.diff": code.DIFF_MASKED}


def edit_mlmodel(folder: Path, **changes: str) -> None:
    """Change fields of a model's ``MLmodel`` file."""
    file = folder / "MLmodel"
    if file.is_file():
        about = yaml.safe_load(file.read_text("utf-8")) | changes
        file.write_text(yaml.safe_dump(about, allow_unicode=True), "utf-8")


def parse_record(about: dict[str, Any]) -> RunRecord:
    """Return a run from untrusted JSON; errors say what is wrong with it.

    MLflow's messages check their types; here is what they leave open.
    """
    run = ParseDict(about["run"], Run())
    tags, status = by_key(run.data.tags), entities.RunStatus.to_string(run.info.status)
    made = tags.get(project_runs.SOURCE_RUN_TAG, "")
    require(re.fullmatch("[0-9a-f]{32}", made), f"{made!r} is no id of a run")
    require(status in END_STATUSES, f"its run is {status}")
    for time in (run.info.start_time, run.info.end_time):
        require(0 <= time < MAX_TIME, f"{time} is no time of a run")
    check_keys(run.data.params, run.data.tags, run.data.metrics)
    for used in run.inputs.dataset_inputs:
        name, digest = used.dataset.name, used.dataset.digest
        require(
            0 < len(name) <= 500 and 0 < len(digest) <= 36, f"{name!r} is no dataset"
        )
    models = [ParseDict(model, LoggedModel()) for model in about["models"]]
    require(len(models) == len(run.outputs.model_outputs), "a model is missing")
    for model in models:
        versions = json.loads(
            by_key(model.info.tags).get(project_runs.SOURCE_VERSIONS_TAG, "[]")
        )
        for name in (model.info.name, *(version["name"] for version in versions)):
            require(re.fullmatch(MODEL_NAME, name), f"{name!r} is no name of a model")
        check_keys(model.data.params, model.info.tags, model.data.metrics)
    return RunRecord(run, models, [parse_record(child) for child in about["children"]])


def require(fine: Any, otherwise: str) -> None:
    """Raise a ValueError unless a condition holds."""
    if not fine:
        raise ValueError(otherwise)


def by_key(entries: Any) -> dict[str, Any]:
    """Return tags, parameters or metrics by their names."""
    return {entry.key: entry.value for entry in entries}


def delete_runs(runs: list[Any], experiment: str) -> None:
    """Delete runs with their models and child runs."""
    client = MlflowClient()
    for run_id in (run.info.run_id for run in runs):
        delete_runs(children_of(run_id, [experiment]), experiment)
        own = f"source_run_id = '{run_id}'"
        for model in client.search_logged_models([experiment], filter_string=own):
            client.delete_logged_model(model.model_id)
        client.delete_run(run_id)


def write_record(record: RunRecord, folder: Path, experiment: str, **tags: str) -> str:
    """Write a run into an experiment; return its new id.

    Until everything is there, a tag of the run and its children says that it is not.
    """
    client, run, info = MlflowClient(), record.run, record.run.info
    own = by_key(run.data.tags)
    tags.setdefault(project_runs.INCOMPLETE_TAG, own[project_runs.SOURCE_RUN_TAG])
    made = client.create_run(experiment, info.start_time, own | tags, info.run_name)
    run_id = made.info.run_id
    params = [entities.Param.from_proto(param) for param in run.data.params]
    client.log_batch(run_id, to_metrics(run.data.metrics), params)
    used = [entities.DatasetInput.from_proto(d) for d in run.inputs.dataset_inputs]
    client.log_inputs(run_id, used)
    if any((folder / "artifacts").glob("*")):
        client.log_artifacts(run_id, str(folder / "artifacts"))
    for number, model in enumerate(record.models):
        said, artifacts = model.info, folder / f"model{number}"
        about = by_key(said.tags), by_key(model.data.params), said.model_type or None
        logged = client.create_logged_model(experiment, said.name, run_id, *about)
        if artifacts.is_dir():
            place = {"artifact_path": logged.artifact_location, "run_id": run_id}
            ids = {"model_id": logged.model_id, "model_uuid": logged.model_id}
            edit_mlmodel(artifacts, **place, **ids)
            client.log_model_artifacts(logged.model_id, str(artifacts))
        ready = said.status == READY.to_proto()
        client.finalize_logged_model(logged.model_id, READY if ready else FAILED)
        step = run.outputs.model_outputs[number].step
        output = entities.LoggedModelOutput(logged.model_id, step)
        client.log_outputs(run_id, [output])
        client.log_batch(
            run_id, to_metrics(model.data.metrics, logged.model_id, run_id)
        )
    for number, child in enumerate(record.children):
        ours = {
            project_runs.INCOMPLETE_TAG: "with its parent",
            names.PARENT_TAG: run_id,
        }
        write_record(child, folder / f"child{number}", experiment, **ours)
    status = entities.RunStatus.to_string(info.status)
    client.set_terminated(run_id, status, info.end_time or None)
    client.delete_tag(run_id, project_runs.INCOMPLETE_TAG)
    return run_id


def to_metrics(values: Any, model_id: str = "", run_id: str = "") -> list[Any]:
    """Return metrics as MLflow's entities."""
    for value in values:
        value.model_id, value.run_id = model_id, run_id
    return [entities.Metric.from_proto(value) for value in values]


def children_of(run_id: str, where: list[str]) -> list[Any]:
    """Return all child runs of a run."""
    found: Any = search_runs(
        where, f"tags.`{names.PARENT_TAG}` = '{run_id}'", output_format="list"
    )
    return found


def all_runs(experiment: str) -> list[Any]:
    """Return all runs of an experiment."""
    found: Any = search_runs([experiment], output_format="list")
    return found


def read_model(model_id: str, run_id: str, folder: Path) -> Any:
    """Return the message of a logged model, with the tags of its versions."""
    client = MlflowClient()
    model, registered = client.get_logged_model(model_id), []
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if model_id in f"{version.model_id} {version.source}":
            # Unity Catalog's search leaves the tags out.
            tags = client.get_model_version(version.name, version.version).tags
            registered.append({"name": version.name, "tags": tags})
    if registered:
        model.tags[project_runs.SOURCE_VERSIONS_TAG] = json.dumps(registered)
    model.metrics = [m for m in model.metrics or () if m.run_id == run_id]
    if client.list_logged_model_artifacts(model_id):
        place = model.artifact_location  # by its id, MLflow would add a file
        part = Path(download_artifacts(place, dst_path=f"{folder}.part"))
        part.rename(folder)
        edit_mlmodel(folder, artifact_path="")
    return model.to_proto()


def check_keys(params: Any, tags: Any, metrics: Any) -> None:
    """Refuse parameters, tags and metrics that MLflow refuses."""
    for entries, longest in ((params, 6000), (tags, 8000), (metrics, 30)):
        for key, value in by_key(entries).items():
            fine = re.fullmatch(KEY, key) and posixpath.normpath(key) == key
            require(fine, f"{key!r} is no name that MLflow takes")
            require(key not in STORE_LINK_TAGS, f"{key!r} leads into another store")
            require(len(str(value)) <= longest, f"{key!r} is over {longest} characters")
