"""Two models, measured on the same rows by the metric that decides between them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from click import ClickException

from . import models, redact, training_rows

SIGNS = {"more": 1, "less": -1}  # is more of a metric better, or less?
MIN_UNSEEN_ROWS = 5  # fewer would leave the decision to chance


def score_new_model(loaded: Any, measure: Callable, rows: Any, metric: str) -> float:
    """Return the deciding metric of the new model; refuse what is no number."""
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


def score_champion(
    loaded: Any, measure: Callable, rows: Any, metric: str, number: str
) -> tuple[float | None, str]:
    """Return the champion's score and a description; None if the data do not fit it.

    Raises:
        ClickException: It fails, and not because of the data.
    """
    lost = f"version {number}, not comparable: "
    try:
        metrics = measure(loaded.get_raw_model(), rows)
    except Exception as error:
        if models.fails_on_data_only(loaded, error):
            return None, lost + redact.first_line(error)
        raise ClickException(
            f"The champion, version {number}, cannot be measured here "
            f"({type(error).__name__}: {redact.first_line(error)})"
        ) from error
    if metric not in metrics:
        return None, f"{lost}its {metric} was not measured"
    if not math.isfinite(metrics[metric]):
        return None, f"{lost}its {metric} is {metrics[metric]}"
    return metrics[metric], f"{metrics[metric]:.4g} of version {number}"


def load_champion(name: str, number: str) -> Any:
    """Load the champion, or say how to give it up."""
    try:
        return models.load_pyfunc(f"models:/{name}/{number}")
    except ClickException as error:
        raise ClickException(
            f"The champion, version {number} of {name}, cannot be measured: "
            f"{error.message} -- or give it up and run this node again: "
            'python -c "import mlflow; mlflow.MlflowClient()'
            f".delete_registered_model_alias('{name}', 'champion')\""
        ) from error


def fair_rows(new: Any, champion: Any, test: Any) -> tuple[Any, str]:
    """Return the rows for a fair comparison of two models, and a remark.

    If the champion was trained on some of them, those that neither was trained on
    are used, if they are enough.
    """
    ours, theirs = (
        training_rows.seen(m.metadata.metadata, test) for m in (new, champion)
    )
    if theirs is None or not (count := int(np.nansum(theirs))):
        return test, ""
    unseen = theirs == 0
    if ours is not None:
        unseen &= ours == 0
    if unseen.sum() >= MIN_UNSEEN_ROWS:
        return test[unseen], f", on {unseen.sum()} rows that neither was trained on"
    known = np.count_nonzero(~np.isnan(theirs))
    return test, f", which was trained on {count} of these {known} rows"
