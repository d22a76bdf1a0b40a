"""Pictures of a model and its quality."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, precision_recall_curve
from sklearn.pipeline import Pipeline

# Told apart by the colour-blind, and in grey (Okabe and Ito 2008).
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"]


def draw_confusion_matrix(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw how many flowers of each species were taken for which.

    Args:
        truth: The true species, shape (n,).
        predicted: The predicted species, shape (n,).

    Returns:
        A figure of 5 by 4 inches, a count in each cell.
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        truth, predicted, ax=axes, cmap="Blues", colorbar=False
    )
    axes.set(title=f"{len(truth)} test flowers", xlabel="predicted", ylabel="true")
    return figure


def draw_quality(
    model: Pipeline, truth: np.ndarray, probabilities: pd.DataFrame
) -> Figure:
    """Draw what a model looks at, what it finds, and how far it can be believed.

    Args:
        model: The fitted pipeline, which ends in a linear classifier.
        truth: The true species, shape (n,).
        probabilities: A column for each class of the model, shape (n, classes).

    Returns:
        A figure of 13 by 4 inches: coefficients, precision and recall, calibration.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    features, coefficients = model.feature_names_in_, model[-1].coef_
    if len(coefficients) == 1:  # scikit-learn keeps the second of two classes
        coefficients = np.vstack([-coefficients, coefficients])
    positions, height = np.arange(len(features)), 0.8 / len(coefficients)
    right.plot([0, 1], [0, 1], ":", color="grey")
    for number, (species, likely) in enumerate(probabilities.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "label": species}
        width = max(1, 4 - number)  # lines that coincide all show
        left.barh(positions + number * height, coefficients[number], height, **style)
        precision, recall, _ = precision_recall_curve(
            truth == species, likely, drop_intermediate=True
        )
        middle.step(recall, precision, where="post", linewidth=width, **style)
        table = pd.DataFrame({"expected": likely, "found": truth == species})
        means = table.groupby(np.floor(likely * 4.999)).mean()
        right.plot(means["expected"], means["found"], "o-", **style)
    left.set_yticks(positions + 0.4 - height / 2, features)
    left.invert_yaxis()
    left.set(title="Coefficients", xlabel="log-odds per standard deviation")
    left.locator_params(axis="x", nbins=5)
    middle.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    right.set(title="Calibration, by fifths", xlabel="predicted probability")
    right.set(ylabel="share of flowers of the species")
    for axes in (middle, right):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    left.legend()
    return figure
