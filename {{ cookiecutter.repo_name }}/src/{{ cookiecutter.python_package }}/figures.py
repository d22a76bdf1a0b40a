"""Pictures of a model's quality."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay


def draw_confusion_matrix(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw how many flowers of each species were taken for which.

    Args:
        truth: The true species, shape (n,).
        predicted: The predicted species, shape (n,).

    Returns:
        A figure of 5 by 4 inches, a count in each cell.
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        truth, predicted, ax=figure.subplots(), cmap="Blues", colorbar=False
    )
    return figure
