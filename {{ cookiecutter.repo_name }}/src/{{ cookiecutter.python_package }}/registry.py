"""Which trained model is in use: the versions, and the champion among them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from click import ClickException
from kedro.framework.hooks import hook_impl

from . import tracking

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel, Run

MOST_AT_ONCE = 20  # trainings that register at the same time and are compared
# What stores answer when there is no such alias.
NOT_FOUND = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

logger = logging.getLogger(__name__)


class RegistryHooks:
    """Registers the model that a pipeline run has logged; the best is the champion."""

    @hook_impl
    def after_context_created(self, context) -> None:
        """Read under which name models are registered, and how they are judged."""
        self._config = tracking.read_config(context.config_loader)

    @hook_impl
    def after_catalog_created(self, catalog) -> None:
        """Let nodes have the name as an input."""
        catalog["registered_model_name"] = self._config.get("registered_model_name")

    @hook_impl
    def after_pipeline_run(self, pipeline, catalog) -> None:
        """Register the logged model; whatever goes wrong here costs nobody the run."""
        import mlflow

        name = self._config.get("registered_model_name")
        if not name or "model_uri" not in pipeline.all_outputs():
            return
        client = mlflow.MlflowClient()
        run_id = (mlflow.active_run() or mlflow.last_active_run()).info.run_id
        try:
            tracking.check_contact(run_id)
        except tracking.TrackingError:
            return  # the run's own hook says so
        try:
            with tracking.first_contact():  # it may be another server
                client.search_registered_models(max_results=1)
            model, test = trained_model(run_id), catalog.load("test")
            # Trainings take turns at a SQLite file.
            with tracking.locked(tracking.sqlite_file(mlflow.get_registry_uri())):
                register(name, model, test, **self._config.get("champion", {}))
        except Exception as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            logger.error("Model %s has no new champion: %s", name, reason)
            client.set_tag(run_id, "registry.error", reason[:5000])


def register(
    name: str,
    model: LoggedModel,
    test: pd.DataFrame,
    metric: str = "accuracy",
    margin: float = 0.0,
) -> None:
    """Register a logged model; it becomes champion if it is as good as the present one.

    Args:
        name: The registered model's name.
        model: The model, as its run has logged it.
        test: Measures in cm and the species, a flower a row: both are judged by it.
        metric: A scorer of scikit-learn; more is better.
        margin: By how much the champion must be exceeded, in units of the metric.

    Raises:
        MlflowException: The registry refuses the name or the model.
    """
    import mlflow
    from sklearn.metrics import get_scorer

    from .schema import FEATURES, labels

    truth = labels(test)

    def score(uri: str) -> float:
        judged = mlflow.sklearn.load_model(uri)
        return float(get_scorer(metric)(judged, test[FEATURES], truth))

    def tag(**tags: object) -> None:
        for key, value in tags.items():
            client.set_model_version_tag(name, ours, f"registry.{key}", str(value))
            client.set_tag(model.source_run_id, f"registry.{key}", value)

    def make(alias: str, number: str) -> None:
        tracking.insist(client.set_registered_model_alias, name, alias, number)

    client = mlflow.MlflowClient()
    run = client.get_run(model.source_run_id)
    made = mlflow.register_model(model.model_uri, name, tags=origin(run))
    ours = str(made.version)
    result = score(model.model_uri)
    tag(version=f"{name}/{ours}", metric=metric, margin=margin, score=result)
    settled = champions(name)
    against, wins = "no champion", True
    if present := champion(name):
        theirs = score(f"models:/{name}/{present}")
        tag(champion=present, champion_score=theirs)
        against, wins = f"{theirs:.4g} of version {present}", result >= theirs + margin
    if wins:
        make("champion", ours)
        tag(decision="champion")
        # Trainings at the same time have not seen each other: who looks last, puts the
        # best of them in its place.
        rivals = {n: x for n, x in champions(name).items() if n not in settled}
        best = max(rivals, key=lambda n: (rivals[n], int(n)))
        if champion(name) != best:
            make("champion", best)
        wins = best == ours
    if not wins:
        make("challenger", ours)
        tag(decision="challenger")
    logger.info(
        "Model %s version %s is %s: %s %.4g, against %s and a margin of %s.",
        *(name, ours, "champion" if wins else "challenger"),
        *(metric, result, against, margin),
    )


def champion(name: str) -> str | None:
    """Return the number of the version that is champion, if there is one."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:  # not by the registered model, which brings all its versions along
        version = MlflowClient().get_model_version_by_alias(name, "champion")
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None
    return str(version.version)


def champions(name: str) -> dict[str, float]:
    """Return the scores of the latest versions that became champion, by number."""
    from mlflow import MlflowClient

    latest = {"max_results": MOST_AT_ONCE, "order_by": ["version_number DESC"]}
    found = MlflowClient().search_model_versions(f"name = '{name}'", **latest)
    return {
        str(version.version): float(version.tags["registry.score"])
        for version in found
        if version.tags.get("registry.decision") == "champion"
    }


def origin(run: Run) -> dict[str, str]:
    """Return the tags that link a version to its Kedro run and its data."""
    kedro = {k: v for k, v in run.data.tags.items() if k.startswith("kedro.")}
    data = [entry.dataset for entry in run.inputs.dataset_inputs]
    return kedro | {f"data.{entry.name}.digest": entry.digest for entry in data}


def trained_model(run_id: str) -> LoggedModel:
    """Return the model that a run has logged by the name of ``model``, or the last one.

    Raises:
        ValueError: There is none.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    outputs = client.get_run(run_id).outputs.model_outputs
    logged = [client.get_logged_model(output.model_id) for output in outputs]
    named = [model for model in logged if model.name == "model"]
    if not named:
        raise ValueError(f"run {run_id} has logged no model called 'model'")
    return max(named, key=lambda model: model.creation_timestamp)


def find_model(name: str, which: str) -> tuple[str, dict[str, str]]:
    """Find a model by alias, by version number or by the run that logged it.

    Args:
        name: The registered model's name.
        which: ``champion`` or another alias, ``3``, or a run's id of 32 digits.

    Returns:
        The URI to load the model from, and tags that identify it for good.

    Raises:
        ClickException: There is no such model.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        if re.fullmatch("[0-9a-f]{32}", which):
            model = trained_model(which)
            return model.model_uri, {"model.id": model.model_id, "model.run_id": which}
        if which.isdigit():
            version = client.get_model_version(name, which)
        else:
            version = client.get_model_version_by_alias(name, which)
    except (MlflowException, ValueError) as error:
        raise ClickException(
            f"{name} has no model '{which}'. Train one with `kedro run`, or score with "
            "another alias, version or run: --params=score_options.model=NAME"
        ) from error
    # SQL stores keep the logged model's id in the source only.
    model_id = version.model_id or version.source.rpartition("/")[2]
    return f"models:/{name}/{version.version}", {
        "model.id": model_id,
        "model.run_id": version.run_id,
        "model.version": f"{name}/{version.version}",
    }
