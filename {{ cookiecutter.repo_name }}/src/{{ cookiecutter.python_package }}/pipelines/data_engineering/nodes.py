"""Nodes of the data engineering pipeline."""

from __future__ import annotations

import lazy_loader as lazy
from pydantic import BaseModel, Field

from ...schema import labels

# Loaded when a node runs: commands that only list pipelines do not wait for it.
pd = lazy.load("pandas")
sklearn = lazy.load("sklearn")


class SplitOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """How the data are split: ``split_options`` in parameters.yml."""

    test_size: float = Field(gt=0, lt=1)
    random_state: int = Field(ge=0)


def split_data(
    iris: pd.DataFrame, options: SplitOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the flowers at random, with the same mix of species in both parts.

    Args:
        iris: Four measures in cm and the species, a flower a row.
        options: Share of the test rows and seed.

    Returns:
        The rows to train on and the rows to test on, columns as in ``iris``.

    Raises:
        ValueError: A part would be too small to hold every species.
    """
    train, test = sklearn.model_selection.train_test_split(
        iris, **options.model_dump(), stratify=labels(iris)
    )
    return train, test
