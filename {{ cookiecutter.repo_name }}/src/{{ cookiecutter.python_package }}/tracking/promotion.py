"""Promotion: is the new model as good as the champion?"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click import ClickException

from . import database, models, names, provenance, redact, registry, training_rows

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
    sign, loaded = SIGNS[options.better], models.load_pyfunc(model_uri)
    measured = score_new_model(loaded, measure, test, metric)
    if not math.isclose(reported := metrics.get(metric, math.nan), measured):
        logger.warning(
            "The reported %s, %.4g, is not that of the model %s, %.4g, which decides.",
            *(metric, reported, model_uri, measured),
        )
    if provenance.replay_tags():
        return {"decision": "none: a replay", "metric": metric, "score": measured}
    decision: dict[str, Any]
    decision = {"decision": "champion", "metric": metric, "score": measured}
    decision["against"] = "no other champion"
    # Trainings take turns at a database.
    with (
        explain_permission_error(name),
        database.database_lock(mlflow.get_registry_uri()),
    ):
        model = mlflow.MlflowClient().get_logged_model(model_uri.rpartition("/")[2])
        present, known = registry.champion_version(name), registry.latest_versions(name)
        ours = registry.version_of(model, name, known)
        if present and present != ours:
            theirs = load_champion(name, present)
            rows, said = fair_rows(loaded, theirs, test)
            if len(rows) < len(test):
                decision["score"] = score_new_model(loaded, measure, rows, metric)
            score, against = score_champion(theirs, measure, rows, metric, present)
            decision["against"] = against + said
            if score is not None and sign * (decision["score"] - score) < margin:
                decision["decision"] = "challenger"
        ours = ours or registry.register_version(
            model, name, decision_tags(decision), new=not known
        )
        if decision["decision"] == "champion":
            before = known.keys() - ({registry.champion_version(name)} - {present})
            registry.set_alias(name, "champion", ours)
            if better_one := better_concurrent_version(
                name, ours, decision, before, sign
            ):
                registry.set_alias(name, "champion", better_one[0])
                against = f"{better_one[1]:.4g} of version {better_one[0]}"
                decision |= {"decision": "challenger", "against": against}
                for key, value in decision_tags(decision).items():
                    mlflow.MlflowClient().set_model_version_tag(name, ours, key, value)
        if decision["decision"] == "challenger":
            registry.set_alias(name, "challenger", ours)
    decision = {"version": f"models:/{name}/{ours}", **decision}
    mlflow.set_tags(
        {names.with_namespace(k): v for k, v in decision_tags(decision).items()}
    )
    logger.info(
        "Model %s version %s is %s: %s %.4g, against %s and a margin of %s.",
        *(name, ours, decision["decision"], metric, decision["score"]),
        *(decision["against"], margin),
    )
    return decision


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
    """Return the champion's score, None if today's data do not fit it, and words.

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


def better_concurrent_version(
    name: str, ours: str, decision: dict[str, Any], before: Set[str], sign: int
) -> tuple[str, float] | None:
    """Return the best version, and its score, that became champion beside ours.

    Trainings at the same time have not seen each other. Whoever looks last puts the
    best of them in its place; ``before`` are the versions that were known already.
    """
    from mlflow import MlflowClient

    rivals = {}
    for number in registry.latest_versions(name).keys() - before - {ours}:
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


@contextmanager
def explain_permission_error(name: str) -> Iterator[None]:
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


def decision_tags(decision: dict[str, Any]) -> dict[str, str]:
    """Return a decision as tags."""
    return {f"registry.{key}": str(value)[:5000] for key, value in decision.items()}
