"""The model registry: versions and aliases."""

import json
from contextlib import suppress
from functools import partial
from typing import Any

from mlflow import MlflowClient, get_registry_uri
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from . import database, datasets, names
from .client import ignore_errors

MAX_CONCURRENT = 20  # trainings that register at the same time and are compared
# What stores answer when there is no such alias or name; basic-auth forbids to ask.
NOT_FOUND = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED")
VERSIONS_TAG = "mlflow.modelVersions"  # MLflow's tag of a logged model


def register_version(
    model: LoggedModel, name: str, tags: dict[str, str], new: bool
) -> str:
    """Register a logged model as a version, with tags about its run and data."""
    client, run_id = MlflowClient(), model.source_run_id
    if run_id:
        run = client.get_run(run_id)
        kedro = {k: v for k, v in run.data.tags.items() if k.startswith("kedro.")}
        inputs = run.inputs.dataset_inputs if run.inputs else []
        used = [entry.dataset for entry in inputs]
        digests = {names.data_tag(data.name, "digest"): data.digest for data in used}
        tags = kedro | digests | upstream_tags(run) | tags
    if new:
        with ignore_errors("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(name)
    create = partial(client.create_model_version, model_id=model.model_id)
    version = database.retry_on_conflict(create, name, model.model_uri, run_id, tags)
    # As `mlflow.register_model` does, with fewer questions to the server.
    shown = [*versions_in_tag(model), {"name": name, "version": version.version}]
    client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: json.dumps(shown)})
    return str(version.version)


def upstream_tags(run: Any) -> dict[str, str]:
    """Return tags with the runs that wrote a run's inputs, and their parameters."""
    found: dict[str, dict[str, str]] = {}
    todo = datasets.upstream_run_ids(run)
    while todo:
        if (run_id := todo.pop()) in found:
            continue
        found[run_id] = {}
        with suppress(MlflowException):  # deleted for good, or in another store
            earlier = MlflowClient().get_run(run_id)
            found[run_id] = earlier.data.params
            todo += datasets.upstream_run_ids(earlier)
    tags = {"trained.runs": ",".join(found)} if found else {}
    for params in reversed(found.values()):  # those of the nearest run count
        tags |= {f"trained.{k}"[: names.MAX_NAME]: v for k, v in params.items()}
    return tags


def versions_in_tag(model: LoggedModel) -> list[dict[str, Any]]:
    """Return ``name`` and ``version`` of each version of a logged model."""
    return json.loads(model.tags.get(VERSIONS_TAG, "[]"))


def version_of(
    model: LoggedModel, name: str, known: dict[str, ModelVersion]
) -> str | None:
    """Return the version number of a logged model, if it is registered."""
    for number, version in known.items():
        # SQL stores keep the logged model's id in the source only.
        source = (version.source or "").rpartition("/")[2]
        if model.model_id in (version.model_id, source):
            return number
    numbers = {entry["name"]: str(entry["version"]) for entry in versions_in_tag(model)}
    return numbers.get(name)


def latest_versions(name: str) -> dict[str, ModelVersion]:
    """Return the latest versions by number."""
    unity = get_registry_uri().startswith("databricks-uc")  # it does not sort
    found = MlflowClient().search_model_versions(
        f"name = {names.quoted(name)}",
        MAX_CONCURRENT,
        None if unity else ["version_number DESC"],
    )
    return {str(version.version): version for version in found}


def champion_version(name: str) -> str | None:
    """Return the version number of the champion, if there is one."""
    with ignore_errors(*NOT_FOUND):
        # Not by the registered model, which brings all its versions along.
        version = MlflowClient().get_model_version_by_alias(name, "champion")
        return str(version.version)
    return None


def set_alias(name: str, alias: str, number: str) -> None:
    """Give an alias to a version."""
    assign = MlflowClient().set_registered_model_alias
    database.retry_on_conflict(assign, name, alias, number)
