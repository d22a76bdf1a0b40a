"""How often is drift reported where there is none, and how often is it found?

Prints the tables of docs/monitoring.md: `python benchmarks/drift.py`, five minutes.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True  # the template stays as it is
sys.path.append(
    str(ROOT / "{{ cookiecutter.repo_name }}/src/{{ cookiecutter.python_package }}")
)

from tracking import column_counts, drift  # noqa: E402

ROUNDS = 1000
TRAINING_ROWS = 120  # as many as iris.csv leaves for training
FLOWERS = pd.read_csv(ROOT / "{{ cookiecutter.repo_name }}/data/01_raw/iris.csv")
FEATURES = [*FLOWERS.columns[:4]]

Draw = Callable[[np.random.Generator, int], pd.DataFrame]


def flowers(random: np.random.Generator, rows: int) -> pd.DataFrame:
    """Return flowers, and their species as the answers of a perfect model."""
    return FLOWERS.iloc[random.integers(0, len(FLOWERS), rows)].reset_index(drop=True)


def many_kinds(random: np.random.Generator, rows: int) -> pd.DataFrame:
    """Return a table of 20 columns of all kinds, some with missing cells."""
    names = np.array([f"name {n}" for n in range(200)])
    zipf = 1 / np.arange(1, 201)
    columns = {f"normal {n}": random.normal(size=rows) for n in range(8)}
    columns |= {f"long tail {n}": random.lognormal(0, 2, rows) for n in range(3)}
    columns |= {f"count {n}": random.poisson(3.0, rows) for n in range(2)}
    zero = random.random(rows) < 0.6
    columns["mostly zero"] = np.where(zero, 0, random.normal(size=rows))
    gaps = random.random(rows) < 0.2
    columns["with gaps"] = np.where(gaps, np.nan, random.normal(size=rows))
    columns["constant"] = np.ones(rows)
    columns["date"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(
        random.integers(0, 365, rows), "D"
    )
    columns["three texts"] = random.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1])
    columns["200 texts"] = random.choice(names, rows, p=zipf / zipf.sum())
    columns["boolean"] = random.random(rows) < 0.3
    return pd.DataFrame(columns)


def compared(train: pd.DataFrame, new: pd.DataFrame) -> dict:
    """Compare a table with a training table, with the default options."""
    counters = column_counts.Counters(column_counts.describe(train))
    counters.update(new)
    return drift.compare(counters, drift.DriftOptions())


def false_alarms(draw: Draw, rows: int) -> tuple[float, float]:
    """Return the shares of undrifted tables with a verdict, and with a PSI over 0.2."""
    random = np.random.default_rng(rows)
    alarms, psi = 0, 0
    for _ in range(ROUNDS):
        found = compared(draw(random, TRAINING_ROWS), draw(random, rows))
        alarms += found["verdict"] != "none"
        psi += any(column.get("psi", 0) > 0.2 for column in found["columns"].values())
    return alarms / ROUNDS, psi / ROUNDS


def detected(rows: int, shift: float) -> tuple[float, float]:
    """Return in which share of tables a shifted column is found, and named first.

    Args:
        rows: Of the new table.
        shift: Of one of the four measures, in turn, in its standard deviations.
    """
    random = np.random.default_rng(rows)
    found, first = 0, 0
    for number in range(ROUNDS):
        name = FEATURES[number % len(FEATURES)]
        new = flowers(random, rows)
        new[name] += shift * FLOWERS[name].std()
        drifted = compared(flowers(random, TRAINING_ROWS), new)["drifted"]
        found += name in drifted
        first += drifted[:1] == [name]
    return found / ROUNDS, first / ROUNDS


def main() -> None:
    """Print both tables."""
    tables = {"flowers, 5 columns": flowers, "all kinds, 20 columns": many_kinds}
    print(f"False alarms in {ROUNDS:,} undrifted tables\n")
    print("| table | rows | verdict | PSI above 0.2 in a column |\n|---|---|---|---|")
    for title, draw in tables.items():
        for rows in (50, 500, 50_000):
            alarms, psi = false_alarms(draw, rows)
            print(f"| {title} | {rows:,} | {alarms:.1%} | {psi:.1%} |", flush=True)
    print("\nOne measure of the flowers is shifted, by standard deviations\n")
    print("| shift | rows | found | named first |\n|---|---|---|---|")
    for shift in (0.5, 1.0):
        for rows in (50, 100, 500):
            found, first = detected(rows, shift)
            print(f"| {shift} | {rows} | {found:.1%} | {first:.1%} |", flush=True)


if __name__ == "__main__":
    main()
