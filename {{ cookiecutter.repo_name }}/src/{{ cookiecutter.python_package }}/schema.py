"""The columns of the tables, and what is refused before any node runs."""

import pandas as pd

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
TARGET = "species"


def validate_features(data: pd.DataFrame) -> pd.DataFrame:
    """Refuse flowers whose measures are missing, not numbers, or not positive.

    Args:
        data: A row a flower, with the columns ``FEATURES`` in cm.

    Returns:
        ``data``, its measures as floats.

    Raises:
        ValueError: Names each column at fault and how many of its rows.
    """
    refuse_missing(FEATURES, data)
    numbers = data[FEATURES].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~((numbers > 0) & (numbers < float("inf")))
    if wrong.any(axis=None):
        counts = ", ".join(f"{name} ({n} rows)" for name, n in wrong.sum().items() if n)
        raise ValueError(f"not a positive number: {counts}")
    return data.assign(**{name: numbers[name] for name in FEATURES})


def validate_iris(data: pd.DataFrame) -> pd.DataFrame:
    """Refuse training data without valid measures or with flowers of no species.

    Args:
        data: As for ``validate_features``, with the label in the column ``TARGET``.

    Returns:
        ``data``, its measures as floats.

    Raises:
        ValueError: Names each column at fault and how many of its rows.
    """
    refuse_missing([*FEATURES, TARGET], data)
    unlabelled = data[TARGET].isna() | (data[TARGET] == "")
    if unlabelled.any():
        raise ValueError(f"no label: {TARGET} ({unlabelled.sum()} rows)")
    return validate_features(data)


def refuse_missing(columns: list[str], data: pd.DataFrame) -> None:
    """Raise ``ValueError`` where a table lacks columns or has no rows."""
    if missing := [name for name in columns if name not in data]:
        found = ", ".join(map(str, data.columns))
        raise ValueError(f"missing column(s): {', '.join(missing)}; found: {found}")
    if data.empty:
        raise ValueError("the table has no rows")
