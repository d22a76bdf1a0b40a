"""Pictures of a model and its quality."""

import logging
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }}.pipelines import (
    data_science,
)
from {{ cookiecutter.python_package }}.schema import (
    FEATURES,
    TARGET,
)

logger = logging.getLogger(__name__)


def draw_quality(
    model: Pipeline, test: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[Figure, Figure]:
    """Draw what a model confuses, what it looks at, and how far it can be believed.

    Args:
        model: The fitted pipeline.
        test: A table of flowers, as in ``nodes``.
        predictions: What ``predict`` returns for it.

    Returns:
        The confusion matrix; importances and, if the model has probabilities,
        precision, recall and calibration. A picture that cannot be drawn holds the
        reason, and the log has a warning.
    """
    return (
        draw_or_say_why(draw_confusion, test, predictions),
        draw_or_say_why(draw_plots, model, test, predictions),
    )


def draw_confusion(test: pd.DataFrame, predictions: pd.DataFrame) -> Figure:
    """Draw the confusion matrix."""
    truth, predicted = test[TARGET], predictions[TARGET]
    labels = pd.concat([truth, predicted]).drop_duplicates().sort_values()
    figure = Figure(figsize=(5, 4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        *(truth.map(str), predicted.map(str)),
        labels=[*labels.map(str).drop_duplicates()],
        ax=figure.subplots(),
        cmap="Blues",
        colorbar=False,
    )
    return figure


def draw_plots(
    model: Pipeline, test: pd.DataFrame, predictions: pd.DataFrame
) -> Figure:
    """Draw importances and, from probabilities, precision, recall and calibration."""
    probabilities = predictions.drop(columns=TARGET)
    plots = 1 if probabilities.empty else 3
    quality = Figure(figsize=(4.5 * plots, 4), layout="constrained")
    left, *others = quality.subplots(1, plots, squeeze=False).flat
    rows = test.sample(min(len(test), 1000), random_state=0)
    X, y = rows[FEATURES], rows[TARGET]
    lost: Any = permutation_importance(model, X, y, random_state=0)
    left.barh(FEATURES, lost.importances_mean, xerr=lost.importances_std)
    left.invert_yaxis()
    left.set(title="Importances", xlabel="score lost when the column is shuffled")
    if others:
        middle, right = others
        names = data_science.label_names(test[TARGET])
        for column, likely in probabilities.items():
            one = names == column, likely
            species = column.removeprefix("probability_")
            CalibrationDisplay.from_predictions(*one, ax=right, name=species)
            PrecisionRecallDisplay.from_predictions(
                *one, ax=middle, name=species, drop_intermediate=True
            )
        middle.set(title="Precision and recall", xlabel="recall", ylabel="precision")
        right.set(title="Calibration", xlabel="predicted probability")
        right.set(ylabel="observed share")
    return quality


def draw_or_say_why(draw: Callable[..., Figure], *data: Any) -> Figure:
    """Return a picture; where it cannot be drawn, one that says why."""
    try:
        with rc_context({"text.parse_math": False}):  # a label may hold $
            figure = draw(*data)
            figure.draw_without_rendering()  # what fails, fails here
        figure.set_layout_engine("none")  # it stays as it is laid out
    except Exception as error:
        reason = f"{draw.__name__} has failed: {error}"
        logger.warning("A picture is missing: %s", reason)
        figure = Figure(figsize=(5, 4))
        figure.text(0.05, 0.5, f"{reason:.500}", wrap=True, parse_math=False)
    return figure
