"""Records of runs: they are checked, and written into a store.

A record is MLflow's own messages of a run and its models, with the records of its child
runs; as JSON, and with a folder of artifacts that has the same shape.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml
from google.protobuf.json_format import ParseDict
from mlflow import MlflowClient, entities
from mlflow.protos.service_pb2 import LoggedModel, Run
from mlflow.utils import validation

from .. import database, names, redact, registry
from . import counts, project_runs
from .project_runs import CommandError

# Tags that lead to something of one store.
STORE_LINK_TAGS = {names.PARENT_TAG, project_runs.INCOMPLETE_TAG, registry.VERSIONS_TAG}
END_STATUSES = ("FINISHED", "FAILED", "KILLED")
MAX_TIME = 253_402_300_800_000  # ms: the year 9999
READY, FAILED = entities.LoggedModelStatus.READY, entities.LoggedModelStatus.FAILED
MODEL_NAME = r"[^/:.%\"'\x00-\x1f\x7f-\x9f]{1,250}"
KEY = r"[\w./: -]{1,250}"


class RunRecord(NamedTuple):
    """A run, its models in the order of its outputs, its child runs, and its files."""

    about: dict[str, Any]  # as JSON, with its models and child runs
    run: Any
    models: list[Any]
    children: list["RunRecord"]
    folder: Path

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of the run."""
        return by_key(self.run.data.tags)

    def family(self) -> Iterator["RunRecord"]:
        """Yield the run, its child runs, and theirs."""
        yield self
        for child in self.children:
            yield from child.family()


def edit_mlmodel(folder: Path, **changes: str) -> None:
    """Change fields of a model's ``MLmodel`` file."""
    file = folder / "MLmodel"
    if file.is_file():
        about = yaml.safe_load(file.read_text("utf-8")) | changes
        file.write_text(yaml.safe_dump(about, allow_unicode=True), "utf-8")


def parse_record(about: dict[str, Any], folder: Path) -> RunRecord:
    """Return a run from untrusted JSON, with the folder of its files.

    MLflow's messages check their types; here is what they leave open.

    Raises:
        ValueError: Says what is wrong; readers of the JSON raise other errors.
    """
    run = ParseDict(about["run"], Run())
    tags, status = by_key(run.data.tags), entities.RunStatus.to_string(run.info.status)
    made = tags.get(project_runs.SOURCE_RUN_TAG, "")
    require(re.fullmatch("[0-9a-f]{32}", made), f"{made!r} is no id of a run")
    require(status in END_STATUSES, f"its run is {status}")
    for time in (run.info.start_time, run.info.end_time):
        require(0 <= time < MAX_TIME, f"{time} is no time of a run")
    check_keys(run.data.params, run.data.tags, run.data.metrics)
    for dataset in (used.dataset for used in run.inputs.dataset_inputs):
        named = 0 < len(dataset.name) <= validation.MAX_DATASET_NAME_SIZE
        known = 0 < len(dataset.digest) <= validation.MAX_DATASET_DIGEST_SIZE
        require(named and known, f"{dataset.name!r} is no dataset")
    models = [ParseDict(model, LoggedModel()) for model in about["models"]]
    require(len(models) == len(run.outputs.model_outputs), "a model is missing")
    for model in models:
        tags = by_key(model.info.tags)
        registered = json.loads(tags.get(project_runs.SOURCE_VERSIONS_TAG, "[]"))
        for name in (model.info.name, *(version["name"] for version in registered)):
            require(re.fullmatch(MODEL_NAME, name), f"{name!r} is no name of a model")
        check_keys(model.data.params, model.info.tags, model.data.metrics)
    children = [
        parse_record(child, folder / f"child{number}")
        for number, child in enumerate(about["children"])
    ]
    return RunRecord(about, run, models, children, folder)


def check_keys(params: Any, tags: Any, metrics: Any) -> None:
    """Refuse parameters, tags and metrics that MLflow refuses or cuts."""
    limits = (names.MAX_VALUE, names.MAX_TAG, names.MAX_VALUE)
    for entries, longest in zip((params, tags, metrics), limits, strict=True):
        for key, value in by_key(entries).items():
            fine = re.fullmatch(KEY, key) and not validation.path_not_unique(key)
            require(fine, f"{key!r} is no name that MLflow takes")
            require(key not in STORE_LINK_TAGS, f"{key!r} leads into another store")
            require(len(str(value)) <= longest, f"{key!r} is over {longest} characters")


def require(fine: Any, otherwise: str) -> None:
    """Raise a ValueError unless a condition holds."""
    if not fine:
        raise ValueError(otherwise)


def by_key(entries: Any) -> dict[str, Any]:
    """Return tags, parameters or metrics by their names."""
    return {entry.key: entry.value for entry in entries}


def write_record(record: RunRecord, experiment: str, **tags: str) -> str:
    """Write a run into an experiment; return its new id.

    Until everything is there, a tag of the run and its children says that it is not.
    """
    client, run, info = MlflowClient(), record.run, record.run.info
    tags.setdefault(
        project_runs.INCOMPLETE_TAG, record.tags[project_runs.SOURCE_RUN_TAG]
    )
    tags, artifacts = record.tags | tags, record.folder / "artifacts"
    made = client.create_run(experiment, info.start_time, tags, info.run_name)
    run_id = made.info.run_id
    params = [entities.Param.from_proto(param) for param in run.data.params]
    client.log_batch(run_id, to_metrics(run.data.metrics), params)
    used = [entities.DatasetInput.from_proto(d) for d in run.inputs.dataset_inputs]
    client.log_inputs(run_id, used)
    if any(artifacts.glob("*")):
        client.log_artifacts(run_id, str(artifacts))
    for number, model in enumerate(record.models):
        model_id = write_model(model, record.folder / f"model{number}", made.info)
        step = run.outputs.model_outputs[number].step
        client.log_outputs(run_id, [entities.LoggedModelOutput(model_id, step)])
    half = {project_runs.INCOMPLETE_TAG: "with its parent", names.PARENT_TAG: run_id}
    for child in record.children:
        write_record(child, experiment, **half)
    status = entities.RunStatus.to_string(info.status)
    client.set_terminated(run_id, status, info.end_time or None)
    client.delete_tag(run_id, project_runs.INCOMPLETE_TAG)
    return run_id


def write_model(model: Any, folder: Path, run: Any) -> str:
    """Write a model of a run; return its new id."""
    client, said, run_id = MlflowClient(), model.info, run.run_id
    about = by_key(said.tags), by_key(model.data.params), said.model_type or None
    logged = client.create_logged_model(run.experiment_id, said.name, run_id, *about)
    if folder.is_dir():
        place = {"artifact_path": logged.artifact_location, "run_id": run_id}
        ids = {"model_id": logged.model_id, "model_uuid": logged.model_id}
        edit_mlmodel(folder, **place, **ids)
        client.log_model_artifacts(logged.model_id, str(folder))
    ready = said.status == READY.to_proto()
    client.finalize_logged_model(logged.model_id, READY if ready else FAILED)
    metrics = to_metrics(model.data.metrics, logged.model_id, run_id)
    client.log_batch(run_id, metrics)
    return logged.model_id


def to_metrics(values: Any, model_id: str = "", run_id: str = "") -> list[Any]:
    """Return metrics as MLflow's entities."""
    for value in values:
        value.model_id, value.run_id = model_id, run_id
    return [entities.Metric.from_proto(value) for value in values]


def import_run(found: RunRecord, experiment: str) -> tuple[str, bool]:
    """Write a run into the store unless it is there; return its id, and if it is new.

    Raises:
        CommandError: Something of it did not arrive.
    """
    uri, client = os.environ["MLFLOW_TRACKING_URI"], MlflowClient()
    made = found.tags[project_runs.SOURCE_RUN_TAG]

    def search(name: str) -> list[Any]:
        return client.search_runs([experiment], f"{name} = '{made}'")

    with database.database_lock(uri):
        for half in search(f"tags.`{project_runs.INCOMPLETE_TAG}`"):
            delete_run(half)
        received = search(f"tags.`{project_runs.SOURCE_RUN_TAG}`")
        here = [run.info.run_id for run in received or search("attributes.run_id")]
        run_id = here[0] if here else write_record(found, experiment)
    said = "already is" if here else "is now"
    click.echo(f"Run {made} {said} run {run_id} at {redact.mask(uri)}.")
    if lost := counts.in_records([found]) - counts.in_store(run_id):
        words = counts.in_words(lost)
        raise CommandError(f"Of run {made}, {words} did not arrive in {run_id}.")
    return run_id, not here


def delete_run(run: Any) -> None:
    """Delete a run with its models and, before it, its child runs."""
    client = MlflowClient()
    for one in reversed([*project_runs.family_of(run)]):
        own, where = f"source_run_id = '{one.info.run_id}'", [one.info.experiment_id]
        for model in client.search_logged_models(where, filter_string=own):
            client.delete_logged_model(model.model_id)
        client.delete_run(one.info.run_id)


def import_all(found: list[RunRecord], experiment: str) -> list[str]:
    """Write runs into the store, and say how many there were; return their ids."""
    ids = [import_run(one, experiment) for one in found]
    total, new = counts.in_words(counts.in_records(found)), sum(n for _, n in ids)
    click.echo(f"All is there: {total}. New: {new} of {len(ids)}.")
    return [run_id for run_id, _ in ids]


def register_models(run_id: str) -> None:
    """Register the models of a received run under the names that they had."""
    client = MlflowClient()
    run: Any = client.get_run(run_id)
    for output in run.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        text = model.tags.get(project_runs.SOURCE_VERSIONS_TAG, "[]")
        for version in json.loads(text):
            name, known = version["name"], registry.latest_versions(version["name"])
            number = registry.version_of(model, name, known)
            if not number:  # what their registry decided is no decision of ours
                tags = version["tags"].items()
                tags = {re.sub("^registry", "origin", key): v for key, v in tags}
                number = registry.register_version(model, name, tags, new=not known)
            click.echo(f"Its {model.name} is models:/{name}/{number}.")
