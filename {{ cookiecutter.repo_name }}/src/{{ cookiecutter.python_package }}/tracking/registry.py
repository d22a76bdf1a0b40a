"""Which model is in use: the registered versions, and the champion among them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from click import ClickException

from . import origin, provenance, redact, store, training_rows

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

MOST_AT_ONCE = 20  # trainings that register at the same time and are compared
# Of MLflow's flavours: the library, and where its version is noted.
LIBRARIES = {
    "sklearn": ("scikit-learn", "sklearn_version"),
    "xgboost": ("xgboost", "xgb_version"),
    "lightgbm": ("lightgbm", "lgb_version"),
    "catboost": ("catboost", "cb_version"),
}
FEWEST_ROWS = 5  # that are unseen: fewer are left to chance
SIGNS = {"more": 1, "less": -1}
# What stores answer when there is no such alias or name; basic-auth forbids to ask.
NOT_FOUND = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED")

VERSIONS = "mlflow.modelVersions"  # MLflow's tag of a logged model

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
    from mlflow.entities import LoggedModelInput

    then = origin.replayed()
    exact = f"models:/{then['model.id']}" if then.get("model.uri") == uri else uri
    loaded = load(exact)
    about = loaded.metadata
    run = mlflow.active_run()
    if run and about.model_id:
        mlflow.set_tags(
            {"model.uri": uri, "model.id": about.model_id, "model.run_id": about.run_id}
        )
        used = LoggedModelInput(about.model_id)
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=[used])
    return loaded.get_raw_model()


@dataclass
class PromoteOptions:
    """When a model takes the champion's place.

    Args:
        name: The registered model's name.
        metric: The key of the metrics that decides.
        better: Whether ``more`` of it is better, or ``less``.
        margin: By how much the champion must be exceeded, in units of the metric.
    """

    name: str
    metric: str
    better: str = "more"
    margin: float = 0.0

    def check(self) -> None:
        """Refuse, before anything is computed, what the registry would refuse.

        Raises:
            ClickException: Says which option, and why.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.utils.validation import _validate_model_name

        try:
            _validate_model_name(self.name if isinstance(self.name, str) else None)
        except MlflowException as error:
            message = f"promote_options.name: {redact.first_line(error)}"
            raise ClickException(message) from error
        if "'" in self.name and '"' in self.name:
            raise ClickException("promote_options.name has both kinds of quotes.")
        if self.better not in SIGNS:
            message = f"promote_options.better is more or less, not {self.better!r}."
            raise ClickException(message)
        if isinstance(self.margin, bool) or not isinstance(self.margin, (int, float)):
            raise ClickException(
                f"promote_options.margin is no number: {self.margin!r}"
            )


def promote(
    model_uri: str,
    metrics: dict[str, float],
    measure: Callable[[Any, pd.DataFrame], dict[str, float]],
    test: pd.DataFrame,
    options: PromoteOptions,
) -> dict[str, Any]:
    """Register a logged model; it becomes champion if it is as good as the present one.

    Both are loaded and measured here, on the same rows, so that the decision is about
    the very model that is registered. The same model is registered once, however often
    it is promoted.

    Args:
        model_uri: The model, as its run has logged it.
        metrics: What was reported of it: a warning says if the model has others.
        measure: Measures a model on rows of ``test``.
        test: The rows to measure on. Where the champion has learnt from some of them,
            the others are used, or the decision says that it has.
        options: What decides.

    Returns:
        The decision and what it was made from, as in the tags of run and version.

    Raises:
        ClickException: The metric was not measured or is no number, a model cannot be
            loaded, or this user may not register.
        MlflowException: The registry refuses the name or the model.
    """
    import mlflow

    options.check()
    name, metric, margin = options.name, options.metric, options.margin
    sign, loaded = SIGNS[options.better], load(model_uri)
    measured = measure_new(loaded, measure, test, metric)
    if not math.isclose(reported := metrics.get(metric, math.nan), measured):
        logger.warning(
            "The reported %s, %.4g, is not that of the model %s, %.4g, which decides.",
            *(metric, reported, model_uri, measured),
        )
    if origin.replayed():
        return {"decision": "none: a replay", "metric": metric, "score": measured}
    decision: dict[str, Any]
    decision = {"decision": "champion", "metric": metric, "score": measured}
    decision["against"] = "no other champion"
    # Trainings take turns at a database.
    with permitted(name), store.locked(mlflow.get_registry_uri()):
        model = mlflow.MlflowClient().get_logged_model(model_uri.rpartition("/")[2])
        present, known = champion(name), latest(name)
        ours = find(model, name, known)
        if present and present != ours:
            theirs = load_champion(name, present)
            rows, said = fair_rows(loaded, theirs, test)
            if len(rows) < len(test):
                decision["score"] = measure_new(loaded, measure, rows, metric)
            score, against = judge(theirs, measure, rows, metric, present)
            decision["against"] = against + said
            if score is not None and sign * (decision["score"] - score) < margin:
                decision["decision"] = "challenger"
        ours = ours or register(model, name, tagged(decision), new=not known)
        if decision["decision"] == "champion":
            before = known.keys() - ({champion(name)} - {present})
            make(name, "champion", ours)
            if better_one := outdone(name, ours, decision, before, sign):
                make(name, "champion", better_one[0])
                against = f"{better_one[1]:.4g} of version {better_one[0]}"
                decision |= {"decision": "challenger", "against": against}
                for key, value in tagged(decision).items():
                    mlflow.MlflowClient().set_model_version_tag(name, ours, key, value)
        if decision["decision"] == "challenger":
            make(name, "challenger", ours)
    decision = {"version": f"models:/{name}/{ours}", **decision}
    mlflow.set_tags({provenance.scoped(k): v for k, v in tagged(decision).items()})
    logger.info(
        "Model %s version %s is %s: %s %.4g, against %s and a margin of %s.",
        *(name, ours, decision["decision"], metric, decision["score"]),
        *(decision["against"], margin),
    )
    return decision


def load(uri: str) -> Any:
    """Load a model as MLflow's wrapper, which knows its metadata.

    Raises:
        ClickException: There is no such model, it cannot be loaded, or it does not work
            with the versions that are installed.
    """
    import mlflow

    try:
        loaded = mlflow.pyfunc.load_model(uri)
    except Exception as error:
        made = versions_of(uri)
        raise ClickException(
            f"Cannot load the model {uri}: {redact.first_line(error)} -- "
            + (
                f"it was made with other versions: {remedy(made)}"
                if made
                else "train one with `kedro run`, or name another by its URI: "
                "models:/NAME@ALIAS, models:/NAME/3 or runs:/ID/model"
            )
        ) from error
    check_versions(loaded, uri)
    return loaded


def versions_of(uri: str) -> dict[str, tuple[str, str]]:
    """Return the libraries that a model was made with in another version than is here.

    Returns:
        The version then and the one that is installed, by the library's name.
    """
    import mlflow

    try:
        return other_versions(mlflow.models.get_model_info(uri).flavors)
    except Exception:  # there is no such model, or nothing can be read of it
        return {}


def other_versions(flavors: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the libraries of a model's flavours that are here in another version."""
    found = {}
    for flavor, (library, key) in LIBRARIES.items():
        if then := flavors.get(flavor, {}).get(key):
            try:
                now = metadata.version(library)
            except metadata.PackageNotFoundError:
                now = "none"
            if then != now:
                found[library] = (then, now)
    return found


def remedy(made: dict[str, tuple[str, str]]) -> str:
    """Say which versions a model was made with, which are here, and what to install."""
    said = (f"{name} {then}, here is {now}" for name, (then, now) in made.items())
    wanted = " ".join(f"{name}=={then}" for name, (then, _) in made.items())
    return f"{'; '.join(said)} -- pip install {wanted}"


def check_versions(loaded: Any, uri: str) -> None:
    """Have a model that was made with other versions answer its own input example.

    Raises:
        ClickException: It cannot.
    """
    made = other_versions(loaded.metadata.flavors)
    if not made or (example := loaded.input_example) is None:
        return
    try:
        loaded.predict(example)
    except Exception as error:
        raise ClickException(
            f"The model {uri} does not work here ({redact.first_line(error)}): it was "
            f"made with {remedy(made)}"
        ) from error


def measure_new(loaded: Any, measure: Callable, rows: Any, metric: str) -> float:
    """Return the deciding metric of the new model.

    Raises:
        ClickException: It was not measured, or is no number.
    """
    metrics = measure(loaded.get_raw_model(), rows)
    if metric not in metrics:
        raise ClickException(
            f"Cannot decide by '{metric}', which was not measured: `metric` of "
            f"promote_options is one of {', '.join(metrics)}."
        )
    if not math.isfinite(metrics[metric]):
        raise ClickException(
            f"The new model's {metric} is {metrics[metric]}, which is no number to "
            "decide by: nothing was registered -- correct the metric or the model."
        )
    return metrics[metric]


def fair_rows(new: Any, present: Any, test: Any) -> tuple[Any, str]:
    """Return the rows to compare two models on, and words that say so.

    Rows that one of them has learnt from are left out, if enough others remain.
    """
    import numpy as np

    found = [training_rows.seen(m.metadata.metadata, test) for m in (new, present)]
    theirs = found[1]
    if theirs is None or not (count := int(np.nansum(theirs))):
        return test, ""
    unseen = theirs == 0
    if found[0] is not None:
        unseen &= found[0] == 0
    if unseen.sum() >= FEWEST_ROWS:
        return test[unseen], f", on {unseen.sum()} rows that neither has learnt from"
    known = int((~np.isnan(theirs)).sum())
    return test, f", which has learnt from {count} of these {known} rows"


@contextmanager
def permitted(name: str) -> Iterator[None]:
    """Say in one line that this user may not register."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        raise ClickException(
            f"You may not register versions of {name}: {redact.first_line(error)} -- "
            "the run and its model are recorded; once you may, run this node again"
        ) from error


def outdone(
    name: str, ours: str, decision: dict[str, Any], before: Set[str], sign: int
) -> tuple[str, float] | None:
    """Return the best version, and its score, that became champion beside ours.

    Trainings at the same time have not seen each other. Whoever looks last puts the
    best of them in its place; ``before`` are the versions that were known already.
    """
    from mlflow import MlflowClient

    rivals = {}
    for number in latest(name).keys() - before - {ours}:
        # Asked for one by one: Unity Catalog's search leaves their tags out.
        tags = MlflowClient().get_model_version(name, number).tags
        if (
            tags.get("registry.decision") == "champion"
            and tags.get("registry.metric") == decision["metric"]
        ):
            rivals[number] = float(tags["registry.score"])
    rivals[ours] = decision["score"]
    best = max(rivals, key=lambda number: (sign * rivals[number], int(number)))
    return None if best == ours else (best, rivals[best])


def load_champion(name: str, present: str) -> Any:
    """Load the champion.

    Raises:
        ClickException: It cannot be loaded or used; says how to give it up.
    """
    try:
        return load(f"models:/{name}/{present}")
    except ClickException as error:
        raise ClickException(
            f"The champion, version {present} of {name}, cannot be measured: "
            f"{error.message} -- or give it up and run this node again: "
            'python -c "import mlflow; mlflow.MlflowClient()'
            f".delete_registered_model_alias('{name}', 'champion')\""
        ) from error


def judge(
    loaded: Any, measure: Callable, rows: Any, metric: str, present: str
) -> tuple[float | None, str]:
    """Return the champion's score, None if today's data do not fit it, and words.

    Raises:
        ClickException: It fails, and not because of the data.
    """
    lost = f"version {present}, not comparable: "
    try:
        metrics = measure(loaded.get_raw_model(), rows)
    except Exception as error:
        if not fails_by_data(loaded, error):
            made = other_versions(loaded.metadata.flavors)
            said = f": it was made with {remedy(made)}" if made else ""
            raise ClickException(
                f"The champion, version {present}, cannot be measured here "
                f"({type(error).__name__}: {redact.first_line(error)}){said}"
            ) from error
        return None, lost + redact.first_line(error)
    if metric not in metrics:
        return None, f"{lost}its {metric} was not measured"
    if not math.isfinite(metrics[metric]):
        return None, f"{lost}its {metric} is {metrics[metric]}"
    return metrics[metric], f"{metrics[metric]:.4g} of version {present}"


def fails_by_data(loaded: Any, error: Exception) -> bool:
    """Tell whether a model fails only on today's data: other columns, other labels.

    On its own input example it works then; a failure of memory, of the network, or of
    a library fails there too, or is no error of a value.
    """
    if not isinstance(error, (ValueError, KeyError, TypeError)):
        return False
    if (example := loaded.input_example) is None:
        return isinstance(error, (ValueError, KeyError))
    try:
        loaded.predict(example)
    except Exception:
        return False
    return True


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


def quoted(text: str) -> str:
    """Return a text as a filter of MLflow's takes it."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def latest(name: str) -> dict[str, ModelVersion]:
    """Return the latest versions by number."""
    import mlflow

    unity = mlflow.get_registry_uri().startswith("databricks-uc")  # it does not sort
    found = mlflow.MlflowClient().search_model_versions(
        f"name = {quoted(name)}",
        MOST_AT_ONCE,
        None if unity else ["version_number DESC"],
    )
    return {str(version.version): version for version in found}


def find(model: LoggedModel, name: str, known: dict[str, ModelVersion]) -> str | None:
    """Return the number of the version that a logged model is already, if it is one."""
    for number, version in known.items():
        # SQL stores keep the logged model's id in the source only.
        _, _, source = (version.source or "").rpartition("/")
        if model.model_id in (version.model_id, source):
            return number
    for version in json.loads(model.tags.get(VERSIONS, "[]")):
        if version["name"] == name:
            return str(version["version"])
    return None


def earlier_runs(run: Any) -> dict[str, str]:
    """Return the runs that made what a run has read, and their parameters, as tags."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    found: dict[str, dict[str, str]] = {}
    todo = provenance.made_by(run)
    while todo:
        if (run_id := todo.pop()) in found:
            continue
        try:
            earlier = MlflowClient().get_run(run_id)
        except MlflowException:  # deleted for good, or in another store
            found[run_id] = {}
            continue
        found[run_id] = earlier.data.params
        todo += provenance.made_by(earlier)
    if not found:
        return {}
    params = {k: v for one in reversed(found.values()) for k, v in one.items()}
    tags = {f"trained.{name}"[:250]: text[:5000] for name, text in params.items()}
    return {"trained.runs": ",".join(found), **tags}


def register(model: LoggedModel, name: str, tags: dict[str, str], new: bool) -> str:
    """Make a version of a logged model, with tags that link it to its run and data."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, run_id = MlflowClient(), model.source_run_id
    if run_id:
        run = client.get_run(run_id)
        kedro = {k: v for k, v in run.data.tags.items() if k.startswith("kedro.")}
        inputs = run.inputs.dataset_inputs if run.inputs else []
        used = [entry.dataset for entry in inputs]
        digests = {f"data.{dataset.name}.digest": dataset.digest for dataset in used}
        tags = kedro | digests | earlier_runs(run) | tags
    if new:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    version = store.insist(
        client.create_model_version,
        *(name, model.model_uri, run_id, tags),
        model_id=model.model_id,
    )
    # As `mlflow.register_model` does, with fewer questions to the server.
    shown = json.loads(model.tags.get(VERSIONS, "[]"))
    shown.append({"name": name, "version": version.version})
    client.set_logged_model_tags(model.model_id, {VERSIONS: json.dumps(shown)})
    return str(version.version)
