"""Which rows a model was trained on, in little space, kept with the model.

A model that is measured on rows that it was trained on looks better than it is. Of a
small table the digests of all rows are kept; of a large one only the smallest digests,
which are a random sample of the rows: of a test row with a digest in their range it is
known whether the model has seen it.
"""

import base64
from typing import Any

import numpy as np
import pandas as pd

ROWS_KEY = "training_rows"  # in the model's metadata
MAX_DIGESTS = 5000  # digests of 8 bytes
COLUMNS_KEY = "training_columns"


def digest_rows(table: pd.DataFrame) -> np.ndarray:
    """Return a digest of each row, of shape (rows,) and type uint64."""
    return pd.util.hash_pandas_object(table, index=False).to_numpy()


def describe(train: pd.DataFrame) -> dict[str, Any] | None:
    """Return metadata for a model: digests of its training rows."""
    try:
        smallest = np.unique(digest_rows(train))[:MAX_DIGESTS]
    except TypeError:  # cells that have no digest, such as lists
        return None
    text = base64.b64encode(smallest.astype("<u8").tobytes()).decode()
    return {ROWS_KEY: text, COLUMNS_KEY: list(map(str, train.columns))}


def seen(metadata: dict[str, Any] | None, test: pd.DataFrame) -> np.ndarray | None:
    """Tell which rows of a table were training rows of a model.

    Returns:
        Of shape (rows,): 1 where it has, 0 where it has not, nan where it is not known.
        None if the model has no such metadata, or was trained on others.
    """
    columns = (metadata or {}).get(COLUMNS_KEY)
    if not metadata or not columns or not set(columns) <= set(test.columns):
        return None
    known = np.frombuffer(base64.b64decode(metadata[ROWS_KEY]), "<u8")
    complete, digests = len(known) < MAX_DIGESTS, digest_rows(test[columns])
    is_known = complete | (digests <= known.max(initial=0))
    return np.where(is_known, np.isin(digests, known), np.nan)
