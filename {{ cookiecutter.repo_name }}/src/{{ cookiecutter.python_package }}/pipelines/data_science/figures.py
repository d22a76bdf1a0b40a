"""Pictures of a model and its quality."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }}.schema import (
    FEATURES,
    TARGET,
)


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
        precision, recall and calibration.
    """
    confusion = Figure(figsize=(5, 4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        *(test[TARGET], predictions[TARGET]),
        ax=confusion.subplots(),
        cmap="Blues",
        colorbar=False,
    )

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
        for species, likely in probabilities.items():
            one = test[TARGET].astype(str) == species, likely
            CalibrationDisplay.from_predictions(*one, ax=right, name=species)
            PrecisionRecallDisplay.from_predictions(
                *one, ax=middle, name=species, drop_intermediate=True
            )
        middle.set(title="Precision and recall", xlabel="recall", ylabel="precision")
        right.set(title="Calibration", xlabel="predicted probability")
        right.set(ylabel="observed share")
    return confusion, quality
