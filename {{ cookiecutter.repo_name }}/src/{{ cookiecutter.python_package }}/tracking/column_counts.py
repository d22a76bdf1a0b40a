"""What the columns of a table look like: counts in bins, which can be merged.

``describe`` records a training table: about twenty bins of equal size for numbers and
dates, the share of each category for text and booleans. ``Counters`` counts another
table in the same bins, chunk by chunk; those of several workers can be merged.
"""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

QUANTILES = 24  # so that a column's KS distance is exact to 0.05
MAX_CATEGORIES = 50  # that are counted by name, the most frequent; the others as one
NUMBERS, DATES, CATEGORIES, BOOLEANS = "numbers", "dates", "categories", "booleans"
PROBABILITY_UNITS = 2**40
EMPTY = "empty"  # all cells were missing
# What stands before the bins in the counts of a column.
ROWS, MISSING, INFINITE, BINS = 0, 1, 2, 3


def describe(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return what a table looks like, by column, as JSON can hold it."""
    return {str(name): describe_column(column) for name, column in table.items()}


def describe_column(column: pd.Series) -> dict[str, Any]:
    """Return a column's kind, its bins, and how many rows are in each."""
    record: dict[str, Any] = {"kind": kind_of(column)}
    if record["kind"] in (NUMBERS, DATES):
        numbers = as_numbers(column, record["kind"])
        finite = numbers[np.isfinite(numbers)]
        record["edges"] = bin_edges(finite).tolist()
        record["range"] = [float(finite.min()), float(finite.max())]
    elif record["kind"] != EMPTY:
        counted = category_counts(column, record["kind"])
        if len(counted) > MAX_CATEGORIES:  # free text stays out of the record
            counted = {name: rows for name, rows in counted.items() if rows > 1}
        ordered = sorted(counted, key=lambda name: (-counted[name], name))
        record["names"] = ordered[:MAX_CATEGORIES]
    return record | {"counts": count(column, record).tolist()}


def kind_of(column: pd.Series) -> str:
    """Return how a column is compared."""
    found = types.infer_dtype(column, skipna=True)
    if found == "boolean":
        return BOOLEANS if column.notna().any() else EMPTY
    if types.is_datetime64_any_dtype(column.dtype) or found in ("date", "datetime"):
        kind = DATES
    elif types.is_numeric_dtype(column.dtype) or found == "decimal":
        kind = NUMBERS
    else:
        return CATEGORIES if category_counts(column, CATEGORIES) else EMPTY
    return kind if np.isfinite(as_numbers(column, kind)).any() else EMPTY


def as_numbers(column: pd.Series, kind: str) -> np.ndarray:
    """Return a column as floats, dates as seconds since 1970; nan where it is none."""
    if kind == DATES:
        dates = pd.to_datetime(column, utc=True, errors="coerce")
        numbers = dates.astype("datetime64[us, UTC]").astype("int64") / 1e6
        return numbers.where(dates.notna()).to_numpy(float)
    if not types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column, errors="coerce")
    return column.to_numpy(float, na_value=np.nan)


def bin_edges(numbers: np.ndarray) -> np.ndarray:
    """Return the upper edges of bins of equal size, the first and last ones outside.

    No bin between two edges holds more than a twentieth of the rows, unless all of them
    are equal: a frequent value has a bin of its own.
    """
    steps = np.linspace(0, 1, QUANTILES + 1)
    edges = np.unique(np.quantile(numbers, steps, method="inverted_cdf"))
    upto = [np.count_nonzero(numbers <= edge) for edge in edges]
    large = edges[np.diff(upto, prepend=0) > len(numbers) / 20]
    below = np.nextafter([edges[0], *large], -np.inf)
    return np.unique(np.concatenate([below, edges]))


def category_counts(column: pd.Series, kind: str) -> dict[str, int]:
    """Return how often each text occurs; an empty one is missing."""
    try:
        counted = column.value_counts(sort=False)
    except TypeError:  # cells that cannot be counted, such as lists
        counted = column.dropna().map(str).value_counts(sort=False)
    found: dict[str, int] = {}
    for value, rows in counted.items():
        name = str(value).strip().capitalize() if kind == BOOLEANS else str(value)
        if rows and name:
            found[name] = found.get(name, 0) + int(rows)
    return found


def count(column: pd.Series, record: dict[str, Any]) -> np.ndarray:
    """Count a column in the bins of its record: all rows, missing, infinite, each bin.

    The first and the last bin of numbers are outside the range of the record, the last
    bin of categories is all others.
    """
    rows, kind, infinite = len(column), record["kind"], 0
    bins: list[int]
    if kind in (NUMBERS, DATES):
        numbers = as_numbers(column, kind)
        missing = int(np.count_nonzero(np.isnan(numbers)))
        infinite = int(np.count_nonzero(np.isinf(numbers)))
        # Faster than a search for each number's bin.
        upto = [int(np.count_nonzero(numbers <= edge)) for edge in record["edges"]]
        bins = np.diff([0, *upto, rows - missing]).tolist()
    elif kind == EMPTY:
        missing = int(column.isna().sum())
        bins = [rows - missing]
    else:
        counted = category_counts(column, kind)
        bins = [counted.pop(name, 0) for name in record["names"]]
        bins.append(sum(counted.values()))
        missing = rows - sum(bins)
    return np.array([rows, missing, infinite, *bins], dtype=np.int64)


def bin_shares(counts: list[int]) -> np.ndarray:
    """Return the share of each bin, of what ``count`` returns."""
    bins = np.array(counts[BINS:])
    return bins / max(bins.sum(), 1)


def category_shares(column: dict[str, Any]) -> dict[str, float]:
    """Return the share of each category of a counted column, if it has any."""
    shares = bin_shares(column.get("counts", []))
    if "names" not in column or not shares.any():
        return {}
    named = zip([*column["names"], "others"], shares.tolist(), strict=True)
    return {name: share for name, share in named if share or name != "others"}


class Counters:
    """How many rows of a table are in each bin, by column.

    Attributes:
        columns: The records that they are counted against.
        counts: What ``count`` returns, by column.
        answers: How many answers had probabilities, and the sum of their highest ones,
            in whole numbers, whose sum does not depend on the order.
    """

    def __init__(self, columns: dict[str, dict[str, Any]]) -> None:
        """Take what ``describe`` returns."""
        self.columns = columns
        self.counts = {
            name: np.zeros(len(record["counts"]), np.int64)
            for name, record in columns.items()
        }
        self.answers = [0, 0]

    def update(self, chunk: pd.DataFrame) -> None:
        """Count the rows of a chunk; columns that have no record are left out."""
        for name in self.columns.keys() & set(chunk.columns):
            self.counts[name] += count(chunk[name], self.columns[name])

    def add_probabilities(self, highest: np.ndarray) -> None:
        """Count answers by the highest of their probabilities, of shape (rows,)."""
        whole = np.rint(np.nan_to_num(highest) * PROBABILITY_UNITS).astype(np.int64)
        self.answers[0] += len(whole)
        self.answers[1] += int(whole.sum())

    def mean_probability(self) -> float | None:
        """Return the mean of the highest probabilities, if there were any."""
        rows, total = self.answers
        return total / rows / PROBABILITY_UNITS if rows else None

    def merge(self, other: "Counters") -> None:
        """Add what has been counted elsewhere against the same record."""
        for name, counts in other.counts.items():
            self.counts[name] += counts
        self.answers = [a + b for a, b in zip(self.answers, other.answers, strict=True)]
