"""Which model is in use: the registered versions, and the champion among them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from click import ClickException

from . import provenance, store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

MOST_AT_ONCE = 20  # trainings that register at the same time and are compared
SIGNS = {"more": 1, "less": -1}
# What stores answer when there is no such alias or name.
NOT_FOUND = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

logger = logging.getLogger(__name__)


def load_model(uri: str) -> Any:
    """Load a model, and have the active run name it in its tags and as its input.

    Args:
        uri: MLflow's: ``models:/NAME@ALIAS``, ``models:/NAME/3``, ``runs:/ID/model``.

    Returns:
        The model as it was logged: an estimator, not MLflow's wrapper.

    Raises:
        ClickException: There is no such model, or it cannot be loaded.
    """
    import mlflow

    try:
        loaded = mlflow.pyfunc.load_model(uri)
    except Exception as error:
        raise ClickException(
            f"Cannot load the model {uri}: {store.first_line(error)} -- train one with "
            "`kedro run`, or name another by its URI: models:/NAME@ALIAS, "
            "models:/NAME/3 or runs:/ID/model"
        ) from error
    about = loaded.metadata
    run = mlflow.active_run()
    if run and about.model_id:
        mlflow.set_tags(
            {"model.uri": uri, "model.id": about.model_id, "model.run_id": about.run_id}
        )
        used = mlflow.entities.LoggedModelInput(about.model_id)
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=[used])
    return loaded.get_raw_model()


def promote(
    model_uri: str,
    metrics: dict[str, float],
    measure: Callable[[Any], dict[str, float]],
    *,
    name: str,
    metric: str,
    better: str = "more",
    margin: float = 0.0,
) -> dict[str, Any]:
    """Register a logged model; it becomes champion if it is as good as the present one.

    The same model is registered once, however often it is promoted.

    Args:
        model_uri: The model, as its run has logged it.
        metrics: What was measured of it.
        measure: Measures the present champion in the same way, on the same data.
        name: The registered model's name.
        metric: The key of the metrics that decides.
        better: Whether ``more`` of it is better, or ``less``.
        margin: By how much the champion must be exceeded, in units of the metric.

    Returns:
        The decision and what it was made from, as in the tags of run and version.

    Raises:
        ClickException: The metric was not measured, or the champion cannot be loaded.
        MlflowException: The registry refuses the name or the model.
    """
    import mlflow

    if better not in SIGNS or metric not in metrics:
        raise ClickException(
            f"Cannot judge by '{better}' of '{metric}': `better` is more or less, "
            f"`metric` one of {', '.join(metrics)}."
        )
    client = mlflow.MlflowClient()
    # Trainings take turns at a SQLite file.
    with store.locked(store.sqlite_file(mlflow.get_registry_uri())):
        model = client.get_logged_model(model_uri.rpartition("/")[2])
        present, settled = champion(name), champions(name, metric)
        version = registered(name, model)
        decision: dict[str, Any] = {"metric": metric, "score": metrics[metric]}
        if present and not (version and present == str(version.version)):
            decision |= compare(name, present, measure, decision, better, margin)
        else:
            decision |= {"decision": "champion", "against": "no other champion"}
        if version:
            known = version.tags
        else:
            known = origin(model) | tagged(decision)
            version = mlflow.register_model(model_uri, name, tags=known)
        ours = str(version.version)
        decision = {"version": f"models:/{name}/{ours}", **decision}
        if decision["decision"] == "champion":
            make(name, "champion", ours)
            # Trainings at the same time have not seen each other: who looks last, puts
            # the best of them in its place.
            rivals = champions(name, metric).items() - settled.items()
            scores = {ours: metrics[metric], **dict(rivals)}
            best = max(scores, key=lambda n: (SIGNS[better] * scores[n], int(n)))
            if best != ours:
                make(name, "champion", best)
                against = f"{scores[best]:.4g} of version {best}"
                decision |= {"decision": "challenger", "against": against}
        if decision["decision"] == "challenger":
            make(name, "challenger", ours)
        for key, value in tagged(decision).items() - known.items():
            client.set_model_version_tag(name, ours, key, value)
    mlflow.set_tags({provenance.scoped(k): v for k, v in tagged(decision).items()})
    logger.info(
        "Model %s version %s is %s: %s %.4g, against %s and a margin of %s.",
        *(name, ours, decision["decision"], metric, metrics[metric]),
        *(decision["against"], margin),
    )
    return decision


def compare(
    name: str,
    present: str,
    measure: Callable[[Any], dict[str, float]],
    decision: dict[str, Any],
    better: str,
    margin: float,
) -> dict[str, Any]:
    """Decide between a new model and the champion, which may not fit today's data."""
    import mlflow

    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/{present}").get_raw_model()
    except Exception as error:
        raise ClickException(
            f"The champion, version {present} of {name}, cannot be loaded: "
            f"{store.first_line(error)} -- restore it, or give it up and run this node "
            'again: python -c "import mlflow; mlflow.MlflowClient()'
            f".delete_registered_model_alias('{name}', 'champion')\""
        ) from error
    try:
        theirs = measure(loaded)[decision["metric"]]
    except Exception as error:  # other columns, other labels, or no such metric
        against = f"version {present}, not comparable: {store.first_line(error)}"
        return {"decision": "champion", "against": against}
    ahead = SIGNS[better] * (decision["score"] - theirs)
    return {
        "decision": "champion" if ahead >= margin else "challenger",
        "against": f"{theirs:.4g} of version {present}",
    }


def tagged(decision: dict[str, Any]) -> dict[str, str]:
    """Return a decision as tags."""
    return {f"registry.{key}": str(value)[:5000] for key, value in decision.items()}


def make(name: str, alias: str, number: str) -> None:
    """Give an alias to a version."""
    from mlflow import MlflowClient

    store.insist(MlflowClient().set_registered_model_alias, name, alias, number)


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


def champions(name: str, metric: str) -> dict[str, float]:
    """Return the scores of the latest versions that became champion, by number."""
    from mlflow import MlflowClient

    latest = {"max_results": MOST_AT_ONCE, "order_by": ["version_number DESC"]}
    found = MlflowClient().search_model_versions(f"name = '{name}'", **latest)
    return {
        str(version.version): float(version.tags["registry.score"])
        for version in found
        if version.tags.get("registry.decision") == "champion"
        and version.tags.get("registry.metric") == metric
    }


def registered(name: str, model: LoggedModel) -> ModelVersion | None:
    """Return the version that a logged model is already, if it was registered."""
    from mlflow import MlflowClient

    if model.source_run_id is None:  # it was logged outside of a run
        return None
    mine = f"name = '{name}' and run_id = '{model.source_run_id}'"
    for version in MlflowClient().search_model_versions(mine):
        # SQL stores keep the logged model's id in the source only.
        if model.model_id in (version.model_id, version.source.rpartition("/")[2]):
            return version
    return None


def origin(model: LoggedModel) -> dict[str, str]:
    """Return the tags that link a version to its Kedro run and its data."""
    from mlflow import MlflowClient

    if model.source_run_id is None:
        return {}
    run = MlflowClient().get_run(model.source_run_id)
    kedro = {k: v for k, v in run.data.tags.items() if k.startswith("kedro.")}
    data = [entry.dataset for entry in run.inputs.dataset_inputs]
    return kedro | {f"data.{entry.name}.digest": entry.digest for entry in data}
