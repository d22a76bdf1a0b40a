"""Pictures of a model and its quality."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, precision_recall_curve
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }}.schema import (
    FEATURES,
    TARGET,
)

# Told apart by the colour-blind, and in grey (Okabe and Ito 2008).
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"]


def draw_quality(
    model: Pipeline, test: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[Figure, Figure]:
    """Draw what a model confuses, what it looks at, and how far it can be believed.

    Args:
        model: The fitted pipeline.
        test: Measures in cm and the true species, a flower a row.
        predictions: As ``predict`` returns them, rows as in ``test``.

    Returns:
        The confusion matrix, 5 by 4 inches; importances and, if the model has
        probabilities, precision, recall and calibration, 13 by 4 inches.
    """
    confusion = Figure(figsize=(5, 4), layout="constrained")
    axes = confusion.subplots()
    ConfusionMatrixDisplay.from_predictions(
        test[TARGET], predictions[TARGET], ax=axes, cmap="Blues", colorbar=False
    )
    axes.set(title=f"{len(test)} test flowers", xlabel="predicted", ylabel="true")

    quality = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = quality.subplots(1, 3)
    draw_importances(left, model, test)
    probabilities = predictions.drop(columns=TARGET)
    if probabilities.empty:
        middle.set_axis_off()
        right.set_axis_off()
    else:
        draw_probabilities(middle, right, test[TARGET].astype(str), probabilities)
    return confusion, quality


def draw_importances(axes: Axes, model: Pipeline, test: pd.DataFrame) -> None:
    """Draw how much of the score is lost when a column's values are shuffled.

    That needs nothing of the model but its predictions (Breiman 2001).
    """
    rows = test.sample(min(len(test), 1000), random_state=0)
    X, y = rows[FEATURES], rows[TARGET]
    found: Any = permutation_importance(model, X, y, random_state=0)
    axes.barh(
        FEATURES, found.importances_mean, xerr=found.importances_std, color=COLOURS[0]
    )
    axes.invert_yaxis()
    axes.set(title="Importances", xlabel="score lost when the column is shuffled")


def draw_probabilities(
    middle: Axes, right: Axes, truth: pd.Series, probabilities: pd.DataFrame
) -> None:
    """Draw precision and recall, and calibration, a line a species."""
    right.plot([0, 1], [0, 1], ":", color="grey")
    for number, (species, likely) in enumerate(probabilities.items()):
        colour = COLOURS[number % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "label": species}
        width = max(1, 4 - number)  # lines that coincide all show
        is_it = truth.to_numpy() == species
        precision, recall, _ = precision_recall_curve(
            is_it, likely, drop_intermediate=True
        )
        middle.step(recall, precision, where="post", linewidth=width, **style)
        table = pd.DataFrame({"expected": likely, "found": is_it})
        means = table.groupby(np.floor(likely * 4.999)).mean()
        right.plot(means["expected"], means["found"], "o-", **style)
    middle.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    right.set(title="Calibration, by fifths", xlabel="predicted probability")
    right.set(ylabel="share of flowers of the species")
    for axes in (middle, right):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    middle.legend()
