"""Drift: does a table still look like the table that a model was trained on?

A column has drifted if the difference of its counts is both significant and large:
small tables differ by chance, and in large ones every difference is significant.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from . import column_counts, parameters
from .column_counts import BINS, DATES, EMPTY, INFINITE, MISSING, NUMBERS, ROWS

MIN_EXPECTED = 5  # rows of a category that a chi-squared test needs
# Rows of a category in training. Of many rare ones, those that happen to be in the
# training table are more frequent there than elsewhere, and would seem to drift.
MIN_TRAINED = 10


@dataclass
class DriftOptions:
    """When a table has drifted, and what happens then.

    Args:
        alpha: A column's p-value is below this, divided by the number of columns ...
        min_distance: ... and its distance, from 0 to 1, is at least this.
        min_rows: Fewer rows get no verdict.
        on_drift: ``warn``, or ``fail``: the output is saved, and the run has failed.
    """

    alpha: float = 0.01
    min_distance: float = 0.1
    min_rows: int = 50
    on_drift: str = "warn"

    def check(self) -> None:
        """Refuse values that mean nothing, before anything is computed."""
        option = "drift_options"
        parameters.require_number(f"{option}.alpha", self.alpha, 0, 1)
        parameters.require_number(f"{option}.min_distance", self.min_distance, 0, 1)
        parameters.require_number(f"{option}.min_rows", self.min_rows, 0)
        parameters.require_word(f"{option}.on_drift", self.on_drift, "warn", "fail")


def compare(counters: column_counts.Counters, options: DriftOptions) -> dict[str, Any]:
    """Compare what was counted with the record.

    Returns:
        ``verdict`` in words; the number of ``rows``; the names of ``drifted`` columns
        and all ``columns`` with their measures, the worst ones first; the columns that
        were ``not_found``.
    """
    found = {
        name: compare_column(record, counters.counts[name])
        for name, record in counters.columns.items()
        if counters.counts[name][ROWS]
    }
    limit = options.alpha / max(len(found), 1)
    rows = max((column["rows"] for column in found.values()), default=0)
    enough = rows >= options.min_rows
    for column in found.values():
        significant = enough and column["p"] < limit
        column["drifted"] = significant and column["distance"] >= options.min_distance
    rank = {n: (not c["drifted"], -c["distance"], c["p"]) for n, c in found.items()}
    worst = sorted(found, key=rank.__getitem__)
    drifted = [name for name in worst if found[name]["drifted"]]
    verdict = ", ".join(drifted) or "none"
    return {
        "verdict": verdict if enough else f"too few rows ({rows})",
        "rows": rows,
        "enough_rows": enough,
        "drifted": drifted,
        "columns": {name: found[name] for name in worst},
        "not_found": [name for name in counters.columns if name not in found],
    }


def compare_column(record: dict[str, Any], now: np.ndarray) -> dict[str, Any]:
    """Return how far a column is from its record, and how probable that is by chance.

    The distance is that of Kolmogorov and Smirnov for numbers, half the sum of the
    differences of shares for categories, or the difference of the shares of missing
    cells if that is significant and larger. All are from 0 to 1.
    """
    then, kind = np.array(record["counts"]), record["kind"]
    result: dict[str, Any] = {"kind": kind, "rows": int(now[ROWS])}
    for name, index in (("missing", MISSING), ("infinite", INFINITE)):
        result[name] = float(now[index] / now[ROWS])
    # Gaps that are new count, however rare they were.
    gaps = np.array([[c[MISSING], c[ROWS] - c[MISSING]] for c in (then, now)])
    _, gap_p, gap = chi_squared(*gaps[:, gaps.any(axis=0)])
    old, new = then[BINS:], now[BINS:]
    distance, p = 0.0, 1.0
    if kind in (NUMBERS, DATES) and new.sum():
        result["ks"], p = kolmogorov_smirnov(old, new)
        distance = result["ks"]
        result["outside"] = float((new[0] + new[-1]) / new.sum())
        result["psi"] = population_stability_index(*tenths(old, new))
    elif kind != EMPTY and new.sum():
        if not old[-1]:  # among many rare categories, a new one is not known
            result["outside"] = float(new[-1] / new.sum())
        old, new = without_rare(old, new)
        result["chi2"], p, distance = chi_squared(old, new)
        result["psi"] = population_stability_index(old, new)
    if gap_p < p and gap > distance:
        distance, p = gap, gap_p
    kept = {key: record[key] for key in ("edges", "names", "range") if key in record}
    result |= kept | {"distance": distance, "p": p}
    return result | {"trained_counts": record["counts"], "counts": now.tolist()}


def kolmogorov_smirnov(old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Return the KS distance of two samples from their bins, and its p-value."""
    n, m = int(old.sum()), int(new.sum())
    distance = float(np.abs(np.cumsum(old) / n - np.cumsum(new) / m).max())
    return distance, float(stats.kstwo.sf(distance, max(round(n * m / (n + m)), 1)))


def without_rare(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two samples' categories, those too rare for a test taken into the last."""
    table = np.array([old, new])
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = (expected < MIN_EXPECTED) | (old < MIN_TRAINED)
    rare[-1] = True
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    old, new = table[:, table.any(axis=0)]
    return old, new


def chi_squared(old: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Return chi-squared of two samples' categories, its p-value and their distance."""
    if len(old) < 2 or not old.any():
        return 0.0, 1.0, 0.0
    distance = float(np.abs(old / old.sum() - new / new.sum()).sum() / 2)
    result: Any = stats.chi2_contingency([old, new], correction=False)
    return float(result.statistic), float(result.pvalue), distance


def tenths(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bins of numbers in groups of about a tenth of the rows, for PSI."""
    middle = (np.cumsum(old) - old / 2) / old.sum()
    group = np.minimum(10 * middle, 9).astype(int)
    return np.bincount(group, old), np.bincount(group, new)


def population_stability_index(old: np.ndarray, new: np.ndarray) -> float:
    """Return the PSI of two samples from their bins; an empty bin counts as 0.01 %."""
    then, now = (np.maximum(bins / bins.sum(), 1e-4) for bins in (old, new))
    return float(((now - then) * np.log(now / then)).sum())
