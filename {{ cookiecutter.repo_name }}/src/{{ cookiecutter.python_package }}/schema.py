"""The columns of the flowers' tables, and what is refused before any node runs."""

from __future__ import annotations

import lazy_loader as lazy

np = lazy.load("numpy")
pd = lazy.load("pandas")

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
TARGET = "species"


def validate_measures(data: pd.DataFrame) -> pd.DataFrame:
    """Refuse flowers whose measures are missing, not numbers, or not positive.

    Args:
        data: A row a flower, with the columns ``FEATURES`` in cm.

    Returns:
        ``data``, its measures as floats.

    Raises:
        ValueError: Names each column at fault and how many of its rows.
    """
    if data.empty:
        raise ValueError("the table has no rows")
    if missing := [name for name in FEATURES if name not in data]:
        raise ValueError(f"missing column(s): {', '.join(missing)}")
    numbers = data[FEATURES].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~((numbers > 0) & (numbers < float("inf")))
    if wrong.any(axis=None):
        counts = ", ".join(f"{name} ({n} rows)" for name, n in wrong.sum().items() if n)
        raise ValueError(f"not a positive number: {counts}")
    return data.assign(**numbers)


def validate_iris(data: pd.DataFrame) -> pd.DataFrame:
    """Refuse training data without valid measures or with flowers of no species.

    Args:
        data: As for ``validate_measures``, with the label in the column ``TARGET``.

    Returns:
        ``data``, its measures as floats.

    Raises:
        ValueError: Names each column at fault and how many of its rows.
    """
    data = validate_measures(data)
    if TARGET not in data:
        raise ValueError(f"missing column(s): {TARGET}")
    unnamed = [
        label
        for label in data[TARGET].unique()
        if not isinstance(label, str) or label == ""
    ]
    if unnamed:
        count = data[TARGET].isin(unnamed).sum()
        raise ValueError(f"not a name: {TARGET} ({count} rows)")
    return data


def labels(flowers: pd.DataFrame) -> np.ndarray:
    """Return the species of flowers as text of fixed width.

    scikit-learn sorts it much faster than objects.

    Args:
        flowers: A row a flower, with the label in the column ``TARGET``.

    Returns:
        A label a row.
    """
    codes, species = pd.factorize(flowers[TARGET], use_na_sentinel=False)
    return species.to_numpy(dtype=str)[codes]
