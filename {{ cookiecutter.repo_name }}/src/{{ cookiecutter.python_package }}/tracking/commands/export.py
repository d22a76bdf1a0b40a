"""Read runs from a store, without the secrets and folders of this machine."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from mlflow import MlflowClient, search_runs
from mlflow.artifacts import download_artifacts

from .. import code, names, provenance, redact, secret_names
from . import archive, counts, project_runs, record
from .project_runs import CommandError

USER_TAG = "mlflow.user"
# What belongs to one store, or to its owner.
STORE_FIELDS = {"artifact_uri", "creator_id", "experiment_id", "run_uuid", "user_id"}
# The folders before a file's name; an address is none.
FOLDERS = re.compile(
    r"(?<![\w.~…/\\:-])(?:file://)?(?:/|[A-Za-z]:[\\/])(?:[^\s/\\'\"<>|:,;]+[/\\])+"
)


def choose_runs(given: tuple[str, ...], experiment: str) -> list[Any]:
    """Return the runs of these names; without any, all complete ones of the experiment.

    A run takes its child runs along, so these are left out.
    """
    if given:
        chosen = [project_runs.resolve_run(name, experiment) for name in given]
    else:
        chosen = complete_runs(search_runs([experiment], output_format="list"))
    found = {run.info.run_id: run for run in chosen}
    return [run for run in found.values() if parent_of(run) not in found]


def complete_runs(runs: list[Any]) -> list[Any]:
    """Return the runs that have ended, and whose child runs have; name the others."""
    found: dict[str, Any] = {run.info.run_id: run for run in runs}
    left: set[str] = set()
    for run in runs:
        ended = run.info.status in record.END_STATUSES
        if ended and project_runs.INCOMPLETE_TAG not in run.data.tags:
            continue
        run_id = run.info.run_id
        while run_id in found and run_id not in left:
            left.add(run_id)
            run_id = parent_of(found[run_id])
    for run_id in sorted(left):
        click.echo(f"Run {run_id} has not ended, or is half received: left out.")
    return [run for run in runs if run.info.run_id not in left]


def parent_of(run: Any) -> str:
    """Return the id of the run that a run is a child of; empty if there is none."""
    return run.data.tags.get(names.PARENT_TAG, "")


def read_runs(
    runs: list[Any], folder: Path, project: Path, with_user: bool
) -> list[record.RunRecord]:
    """Return the records of runs, checked as a receiver checks them.

    Raises:
        CommandError: There is none, or the store has more than was read.
    """
    if not runs:
        raise CommandError("There is no run to share.")
    records = []
    for run, place in zip(runs, archive.run_folders(folder, len(runs)), strict=True):
        stored, run_id = counts.in_store(run.info.run_id), run.info.run_id
        about = read_record(run, place, project, with_user)
        records.append(record.parse_record(about, place))
        if lost := stored - counts.in_records(records[-1:]):
            words = counts.in_words(lost)
            raise CommandError(f"Of run {run_id}, {words} was not read.")
    return records


def make_portable(found: Any, project: Path) -> Any:
    """Return JSON without credentials, local folders and fields of one store.

    Paths within the project's folder are told from there.
    """
    if isinstance(found, list):
        return [make_portable(entry, project) for entry in found]
    if isinstance(found, dict):
        keys = found.keys() - STORE_FIELDS
        kept = {k: make_portable(v, project) for k, v in found.items() if k in keys}
        text = isinstance(kept.get("value"), str)  # of a tag or parameter
        if text and secret_names.is_secret(kept.get("key", "")):
            kept["value"] = redact.HIDDEN
        return kept
    if not isinstance(found, str):
        return found
    folders = f"{project.as_uri()}/", f"{project.as_posix()}/", f"{project}{os.sep}"
    for folder in folders:
        found = found.replace(folder, "")
    return redact.mask(FOLDERS.sub("…/", found))


def read_record(
    run: Any, folder: Path, project: Path, with_user: bool
) -> dict[str, Any]:
    """Return a finished run as JSON; its artifacts go to a new folder."""
    client, run_id, tags = MlflowClient(), run.info.run_id, run.data.tags
    if run.info.status not in record.END_STATUSES:
        raise CommandError(f"Run {run_id} has not ended yet.")
    experiment = client.get_experiment(run.info.experiment_id)
    tags.setdefault(project_runs.SOURCE_RUN_TAG, run_id)
    tags.setdefault(project_runs.SOURCE_EXPERIMENT_TAG, experiment.name)
    (artifacts := folder / "artifacts").mkdir(parents=True)
    if client.list_artifacts(run_id):
        client.download_artifacts(run_id, "", str(artifacts))
    tags |= redact_artifacts(artifacts, project)
    models = [
        read_model(output.model_id, run_id, folder / f"model{number}")
        for number, output in enumerate(run.outputs.model_outputs)
    ]
    for kept in (tags, *(model.tags for model in models)):
        for name in record.STORE_LINK_TAGS | (set() if with_user else {USER_TAG}):
            kept.pop(name, None)
    message = run.to_proto()
    del message.data.metrics[:]
    for name in run.data.metrics:
        history = client.get_metric_history(run_id, name)
        message.data.metrics.extend(value.to_proto() for value in history)
    messages = [message, *(model.to_proto() for model in models)]
    found = [MessageToDict(m, preserving_proto_field_name=True) for m in messages]
    about, *said = make_portable(found, project)
    children = [
        read_record(child, folder / f"child{number}", project, with_user)
        for number, child in enumerate(project_runs.children_of(run))
    ]
    return {"run": about, "models": said, "children": children}


def read_model(model_id: str, run_id: str, folder: Path) -> Any:
    """Return a logged model with the tags of its versions; its files go to a folder."""
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
        Path(download_artifacts(place, dst_path=f"{folder}.part")).rename(folder)
        record.edit_mlmodel(folder, artifact_path="")
    return model


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
