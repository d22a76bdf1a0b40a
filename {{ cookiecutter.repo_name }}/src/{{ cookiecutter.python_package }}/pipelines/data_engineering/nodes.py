"""Nodes of the data engineering pipeline."""

from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

from {{ cookiecutter.python_package }}.schema import TARGET


def split_data(
    iris: pd.DataFrame, options: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the flowers at random, with the same mix of species in both parts.

    Args:
        iris: Four measures in cm and the species, a flower a row.
        options: Arguments of scikit-learn's ``train_test_split``.

    Returns:
        The rows to train on and the rows to test on, columns as in ``iris``.

    Raises:
        ValueError: A part would be too small to hold every species.
    """
    parts: Any = train_test_split(iris, stratify=iris[TARGET], **options)
    train, test = parts
    return train, test
