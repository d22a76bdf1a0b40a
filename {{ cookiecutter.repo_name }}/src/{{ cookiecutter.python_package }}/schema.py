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
    require(FEATURES, data)
    try:
        numbers = data[FEATURES].astype("double[pyarrow]").astype(float)  # fast
    except ValueError:
        numbers = data[FEATURES].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~((numbers > 0) & (numbers < float("inf")))
    if wrong.any(axis=None):
        counts = ", ".join(f"{name} ({n} rows)" for name, n in wrong.sum().items() if n)
        raise ValueError(f"not a positive number: {counts}")
    return data.assign(**{name: numbers[name] for name in FEATURES})


def validate_iris(data: pd.DataFrame) -> pd.DataFrame:
    """Refuse training data without valid measures, or without two flowers a species.

    Args, returns and errors are those of ``validate_features``, with ``TARGET``.
    """
    require([*FEATURES, TARGET], data)
    labels = data[TARGET]
    if missing := (labels.isna() | (labels.astype(str) == "")).sum():
        raise ValueError(f"no label: {TARGET} ({missing} rows)")
    counts = labels.value_counts()
    if len(counts) == 1:
        raise ValueError(f"every {TARGET} is {counts.index[0]}: add rows of another")
    if counts.min() == 1:
        label = f"{TARGET} {counts.idxmin()}"
        raise ValueError(f"one row only of {label}: add rows of it, or leave it out")
    return validate_features(data.assign(**{TARGET: plain(labels)}))


def plain(labels: pd.Series) -> pd.Series:
    """Return labels in a type of NumPy's, which every estimator takes, or as text."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype(labels.cat.categories.dtype)
    return pd.Series(labels.to_numpy(), labels.index)


def require(columns: list[str], data: pd.DataFrame) -> None:
    """Raise ``ValueError`` where a table lacks columns or has no rows."""
    if missing := [name for name in columns if name not in data]:
        found = ", ".join(map(str, data.columns))
        message = f"missing column(s): {', '.join(missing)}; found: {found}"
        if marks := [mark for mark in ";\t|" if mark in found]:
            message += f" -- looks separated by {marks[0]!r}: "
            message += "set load_args: sep in catalog.yml"
        raise ValueError(message)
    if data.empty:
        raise ValueError("the table has no rows")
