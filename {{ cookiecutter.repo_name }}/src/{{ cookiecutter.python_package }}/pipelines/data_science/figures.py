"""Pictures of a model and its quality."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }} import pictures
from {{ cookiecutter.python_package }}.pipelines import data_science
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET


@pictures.reason_if_it_fails
def draw_confusion(test: pd.DataFrame, predictions: pd.DataFrame) -> Figure:
    """Draw which species are taken for which: the confusion matrix.

    Args:
        test: A table of flowers, as in ``nodes``.
        predictions: What ``predict`` returns for it.
    """
    truth, predicted = test[TARGET], predictions[TARGET]
    labels = pd.concat([truth, predicted]).drop_duplicates().sort_values()
    names = [*labels.map(str).drop_duplicates()]
    # scikit-learn's own count takes ten times as long for a million labels
    counts = pd.crosstab(truth.map(str).to_numpy(), predicted.map(str).to_numpy())
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    figure = Figure(figsize=(5, 4), layout="constrained")
    display = ConfusionMatrixDisplay(counts.to_numpy(), display_labels=names)
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False)
    return figure


@pictures.reason_if_it_fails
def draw_quality(
    model: Pipeline, test: pd.DataFrame, predictions: pd.DataFrame
) -> Figure:
    """Draw what a model looks at and, if it has probabilities, what they are worth.

    Args:
        model: The fitted pipeline.
        test: A table of flowers, as in ``nodes``.
        predictions: What ``predict`` returns for it.
    """
    probabilities = predictions.drop(columns=TARGET)
    plots = 1 if probabilities.empty else 3
    figure = Figure(figsize=(4.5 * plots, 4), layout="constrained")
    left, *others = figure.subplots(1, plots, squeeze=False).flat
    plot_importances(left, model, test)
    if others:
        middle, right = others
        plot_precision_and_recall(middle, test, probabilities)
        plot_calibration(right, test, probabilities)
    return figure


def plot_importances(ax: Axes, model: Pipeline, test: pd.DataFrame) -> None:
    """Plot how much the score falls when a column is shuffled."""
    rows = test.sample(min(len(test), 1000), random_state=0)
    lost: Any = permutation_importance(
        model, rows[FEATURES], rows[TARGET], random_state=0
    )
    ax.barh(FEATURES, lost.importances_mean, xerr=lost.importances_std)
    ax.invert_yaxis()
    ax.set(title="Importances", xlabel="score lost when the column is shuffled")


def plot_precision_and_recall(
    ax: Axes, test: pd.DataFrame, probabilities: pd.DataFrame
) -> None:
    """Plot precision over recall, a line for each species."""
    names = data_science.label_names(test[TARGET])
    for name, likely in probabilities.items():
        PrecisionRecallDisplay.from_predictions(
            names == name,
            likely,
            name=str(name).removeprefix("probability_"),
            ax=ax,
            drop_intermediate=True,
        )
    ax.set(title="Precision and recall", xlabel="recall", ylabel="precision")


def plot_calibration(ax: Axes, test: pd.DataFrame, probabilities: pd.DataFrame) -> None:
    """Plot how often a species occurs over how probable it was, a line for each."""
    names = data_science.label_names(test[TARGET])
    for name, likely in probabilities.items():
        CalibrationDisplay.from_predictions(
            names == name, likely, name=str(name).removeprefix("probability_"), ax=ax
        )
    ax.set(title="Calibration", xlabel="predicted probability")
    ax.set(ylabel="observed share")
