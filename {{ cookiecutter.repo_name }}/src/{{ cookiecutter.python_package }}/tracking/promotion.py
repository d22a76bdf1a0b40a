"""Promotion: is the new model as good as the champion?"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click import ClickException

from . import (
    database,
    models,
    names,
    parameters,
    provenance,
    redact,
    registry,
    training_rows,
)

if TYPE_CHECKING:
    import pandas as pd

MIN_UNSEEN_ROWS = 5  # that are unseen: fewer are left to chance
SIGNS = {"more": 1, "less": -1}

logger = logging.getLogger(__name__)


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
        """Refuse invalid options before anything is computed.

        Raises:
            ClickException: Says which option, and why.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.utils.validation import _validate_model_name

        name: Any = self.name if isinstance(self.name, str) else None
        try:
            _validate_model_name(name)
        except MlflowException as error:
            message = f"promote_options.name: {redact.first_line(error)}"
            raise ClickException(message) from error
        if "'" in self.name and '"' in self.name:
            raise ClickException("promote_options.name has both kinds of quotes.")
        parameters.require_word("promote_options.better", self.better, *SIGNS)
        parameters.require_number("promote_options.margin", self.margin)


def promote(
    model_uri: str,
    metrics: dict[str, float],
    measure: Callable[[Any, pd.DataFrame], dict[str, float]],
    test: pd.DataFrame,
    options: PromoteOptions,
) -> dict[str, Any]:
    """Register a model; it becomes champion if it is as good as the present one.

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
    name, new_model = options.name, models.load_pyfunc(model_uri)
    score = score_new_model(new_model, measure, test, options.metric)
    warn_of_another_score(metrics, options.metric, score, model_uri)
    decision: dict[str, Any] = {
        "decision": "champion",
        "metric": options.metric,
        "score": score,
        "against": "no other champion",
    }
    if provenance.replay_tags():
        return {"decision": "none: a replay", "metric": options.metric, "score": score}
    registry_lock = database.database_lock(mlflow.get_registry_uri())
    with explain_permission_error(name), registry_lock:
        logged = mlflow.MlflowClient().get_logged_model(model_uri.rpartition("/")[2])
        champion, known = (
            registry.champion_version(name),
            registry.latest_versions(name),
        )
        version = registry.version_of(logged, name, known)
        if champion and champion != version:
            decision |= compare(new_model, score, champion, measure, test, options)
        if not version:
            tags = decision_tags(decision)
            version = registry.register_version(logged, name, tags, new=not known)
        if decision["decision"] == "champion":
            # A champion that came up meanwhile is not known yet.
            before = known.keys() - ({registry.champion_version(name)} - {champion})
            decision |= crown(version, decision, before, options)
        if decision["decision"] == "challenger":
            registry.set_alias(name, "challenger", version)
    decision = {"version": f"models:/{name}/{version}", **decision}
    tags = decision_tags(decision)
    mlflow.set_tags({names.with_namespace(key): text for key, text in tags.items()})
    logger.info(
        "Model %s version %s is %s: %s %.4g, against %s and a margin of %s.",
        *(name, version, decision["decision"], options.metric, decision["score"]),
        *(decision["against"], options.margin),
    )
    return decision


def warn_of_another_score(
    metrics: dict[str, float], metric: str, score: float, model_uri: str
) -> None:
    """Warn if the reported metric is that of another model."""
    reported = metrics.get(metric, math.nan)
    if not math.isclose(reported, score):
        logger.warning(
            "The reported %s, %.4g, is not that of the model %s, %.4g, which decides.",
            *(metric, reported, model_uri, score),
        )


def compare(
    new_model: Any,
    score: float,
    champion: str,
    measure: Callable,
    test: Any,
    options: PromoteOptions,
) -> dict[str, Any]:
    """Measure the champion on the same rows; return what changes in the decision."""
    present = load_champion(options.name, champion)
    rows, remark = fair_rows(new_model, present, test)
    if len(rows) < len(test):
        score = score_new_model(new_model, measure, rows, options.metric)
    best, against = score_champion(present, measure, rows, options.metric, champion)
    found = {"score": score, "against": against + remark}
    lead = SIGNS[options.better] * (score - best) if best is not None else math.inf
    return found if lead >= options.margin else found | {"decision": "challenger"}


def crown(
    version: str, decision: dict[str, Any], before: Set[str], options: PromoteOptions
) -> dict[str, Any]:
    """Make a version champion, unless a concurrent training has a better one.

    Args:
        version: The number of the new version.
        decision: The decision so far.
        before: The versions that were known before.
        options: What decides.

    Returns:
        What changes in the decision.
    """
    from mlflow import MlflowClient

    name = options.name
    registry.set_alias(name, "champion", version)
    best, score = best_concurrent_version(version, decision, before, options)
    if best == version:
        return {}
    registry.set_alias(name, "champion", best)
    lost = {"decision": "challenger", "against": f"{score:.4g} of version {best}"}
    for key, value in decision_tags(decision | lost).items():
        MlflowClient().set_model_version_tag(name, version, key, value)
    return lost


def score_new_model(loaded: Any, measure: Callable, rows: Any, metric: str) -> float:
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
    """Return the rows for a fair comparison of two models, and a remark.

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
    if unseen.sum() >= MIN_UNSEEN_ROWS:
        return test[unseen], f", on {unseen.sum()} rows that neither has learnt from"
    known = int((~np.isnan(theirs)).sum())
    return test, f", which has learnt from {count} of these {known} rows"


def load_champion(name: str, present: str) -> Any:
    """Load the champion.

    Raises:
        ClickException: It cannot be loaded or used; says how to give it up.
    """
    try:
        return models.load_pyfunc(f"models:/{name}/{present}")
    except ClickException as error:
        raise ClickException(
            f"The champion, version {present} of {name}, cannot be measured: "
            f"{error.message} -- or give it up and run this node again: "
            'python -c "import mlflow; mlflow.MlflowClient()'
            f".delete_registered_model_alias('{name}', 'champion')\""
        ) from error


def score_champion(
    loaded: Any, measure: Callable, rows: Any, metric: str, present: str
) -> tuple[float | None, str]:
    """Return the champion's score and a description; None if the data do not fit it.

    Raises:
        ClickException: It fails, and not because of the data.
    """
    lost = f"version {present}, not comparable: "
    try:
        metrics = measure(loaded.get_raw_model(), rows)
    except Exception as error:
        if not models.fails_on_data_only(loaded, error):
            made = models.version_mismatches(loaded.metadata.flavors)
            said = f": it was made with {models.install_hint(made)}" if made else ""
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


def best_concurrent_version(
    version: str, decision: dict[str, Any], before: Set[str], options: PromoteOptions
) -> tuple[str, float]:
    """Return the best of the versions that became champion at the same time.

    Trainings at the same time have not seen each other: the last one to look puts the
    best of them in its place.

    Returns:
        The number of the version, and its score.
    """
    from mlflow import MlflowClient

    scores = {version: decision["score"]}
    for number in registry.latest_versions(options.name).keys() - before - {version}:
        # Asked for one by one: Unity Catalog's search leaves their tags out.
        tags = MlflowClient().get_model_version(options.name, number).tags
        same_metric = tags.get("registry.metric") == options.metric
        if same_metric and tags.get("registry.decision") == "champion":
            scores[number] = float(tags["registry.score"])
    sign = SIGNS[options.better]
    best = max(scores, key=lambda number: (sign * scores[number], int(number)))
    return best, scores[best]


@contextmanager
def explain_permission_error(name: str) -> Iterator[None]:
    """Turn a permission error into one line."""
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


def decision_tags(decision: dict[str, Any]) -> dict[str, str]:
    """Return a decision as tags."""
    return {f"registry.{key}": str(value)[:5000] for key, value in decision.items()}
