"""Promotion: is the new model as good as the champion?"""

import logging
import math
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import mlflow
import pandas as pd
from click import ClickException
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name

from . import comparison, database, models, names, parameters, provenance, registry
from .redact import first_line

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
        """Refuse values that mean nothing, before anything is computed."""
        option, name = "promote_options", self.name
        try:
            _validate_model_name(name if isinstance(name, str) else "")
        except MlflowException as error:
            raise ClickException(f"{option}.name: {first_line(error)}") from error
        if not names.quoted(name):
            raise ClickException(f"{option}.name has both kinds of quotes.")
        parameters.require_word(f"{option}.better", self.better, *comparison.SIGNS)
        parameters.require_number(f"{option}.margin", self.margin)


@dataclass
class Decision:
    """What was decided about a model, and from what: the tags ``registry.*``."""

    metric: str
    score: float
    decision: str = "champion"  # or challenger
    against: str = "no other champion"  # what the score was compared with

    def tags(self) -> dict[str, str]:
        """Return the tags of a version, and of its run."""
        fields = asdict(self).items()
        return {f"registry.{key}": str(text)[: names.MAX_TAG] for key, text in fields}


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
        test: The rows to measure on; those that the champion was trained on are left
            out, or the decision says that it knew them.
        options: What decides.

    Returns:
        The decision and what it was made from, as in the tags of run and version.

    Raises:
        ClickException: A model cannot be loaded or measured, or not be registered.
    """
    options.check()
    model = models.load_pyfunc(model_uri)
    score = comparison.score_new_model(model, measure, test, options.metric)
    decision = Decision(options.metric, score)
    warn_of_another_model(metrics, decision, model_uri)
    if provenance.replay_tags():
        return {"decision": "none: a replay", "metric": options.metric, "score": score}
    with locked_registry(options.name):
        number = decide(decision, model, model_uri, measure, test, options)
    report(number, decision, options)
    return {"version": f"models:/{options.name}/{number}", **asdict(decision)}


def decide(
    decision: Decision,
    model: Any,
    model_uri: str,
    measure: Callable,
    test: Any,
    options: PromoteOptions,
) -> str:
    """Compare a model with the champion, register it, and return its version number."""
    name = options.name
    logged = mlflow.MlflowClient().get_logged_model(model_uri.rpartition("/")[2])
    champion = registry.champion_version(name)
    known = registry.latest_versions(name)
    number = registry.version_of(logged, name, known)
    if champion and champion != number:
        compare(decision, model, champion, measure, test, options)
    if not number:
        tags, new = decision.tags(), not known
        number = registry.register_version(logged, name, tags, new)
    if decision.decision == "champion":
        set_champion(number, decision, champion, known.keys(), options)
    if decision.decision == "challenger":
        registry.set_alias(name, "challenger", number)
    return number


def warn_of_another_model(
    metrics: dict[str, float], decision: Decision, model_uri: str
) -> None:
    """Warn if the reported metric is that of another model."""
    metric, score = decision.metric, decision.score
    reported = metrics.get(metric, math.nan)
    if not math.isclose(reported, score):
        said = f"The reported {metric}, {reported:.4g}, is not that of the model"
        logger.warning("%s %s, %.4g, which decides.", said, model_uri, score)


@contextmanager
def locked_registry(name: str) -> Iterator[None]:
    """Lock the registry's database, if it is one; explain a refusal in one line."""
    try:
        with database.database_lock(mlflow.get_registry_uri()):
            yield
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        raise ClickException(
            f"You may not register versions of {name}: {first_line(error)} -- "
            "the run and its model are recorded; once you may, run this node again"
        ) from error


def compare(
    decision: Decision,
    model: Any,
    champion: str,
    measure: Callable,
    test: Any,
    options: PromoteOptions,
) -> None:
    """Measure a model and the champion on the same rows, and decide between them."""
    present = comparison.load_champion(options.name, champion)
    rows, remark = comparison.fair_rows(model, present, test)
    how = (measure, rows, options.metric)
    if len(rows) < len(test):
        decision.score = comparison.score_new_model(model, *how)
    best, against = comparison.score_champion(present, *how, champion)
    decision.against = against + remark
    sign = comparison.SIGNS[options.better]
    if best is not None and sign * (decision.score - best) < options.margin:
        decision.decision = "challenger"


def set_champion(
    number: str,
    decision: Decision,
    champion: str | None,
    known: Set[str],
    options: PromoteOptions,
) -> None:
    """Make a version champion, unless a concurrent training has a better one.

    Trainings at the same time have not seen each other: the last one to look puts the
    best of them in its place. The version was compared with ``champion``, and ``known``
    are the versions that were there by then.
    """
    client, name = mlflow.MlflowClient(), options.name
    present = registry.champion_version(name)
    registry.set_alias(name, "champion", number)
    scores = {number: decision.score}
    since = registry.latest_versions(name).keys() - known
    if present:
        since |= {present}
    for other in since - {champion, number}:
        # Asked for one by one: Unity Catalog's search leaves their tags out.
        tags = client.get_model_version(name, other).tags
        same_metric = tags.get("registry.metric") == options.metric
        if same_metric and tags.get("registry.decision") == "champion":
            scores[other] = float(tags["registry.score"])
    sign = comparison.SIGNS[options.better]
    best = max(scores, key=lambda other: (sign * scores[other], int(other)))
    if best != number:
        registry.set_alias(name, "champion", best)
        decision.decision = "challenger"
        decision.against = f"{scores[best]:.4g} of version {best}"
        for key, text in decision.tags().items():
            client.set_model_version_tag(name, number, key, text)


def report(number: str, decision: Decision, options: PromoteOptions) -> None:
    """Report a decision in the tags of the active run, and in a line of the log."""
    tags = {"registry.version": f"models:/{options.name}/{number}", **decision.tags()}
    mlflow.set_tags({names.with_namespace(key): text for key, text in tags.items()})
    said = (
        f"{decision.decision}: {decision.metric} {decision.score:.4g}, "
        f"against {decision.against} and a margin of {options.margin}"
    )
    logger.info("Model %s version %s is %s.", options.name, number, said)
