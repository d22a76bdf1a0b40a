"""``tracking.column_counts``: a table in bins, whole, in chunks, and of all kinds."""

import itertools
import pickle
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import column, few, tables


@pytest.fixture
def counts(module):
    return module("tracking.column_counts")


@few
@given(table=tables, cuts=st.lists(st.integers(0, 60), max_size=4), data=st.data())
def test_any_split_and_order_gives_the_same_counts(counts, table, cuts, data):
    record = counts.describe(table)
    whole = counts.Counters(record)
    whole.update(table.sample(frac=1, random_state=0))
    edges = [0, *sorted(cuts), max(len(table), *cuts, 0)]
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = counts.Counters(record)
        part.update(table[start:stop])
        parts.append(pickle.loads(pickle.dumps(part)))  # as a worker returns it
    total, *others = data.draw(st.permutations(parts))
    for part in others:
        total.merge(part)
    for name, counted in whole.counts.items():
        assert counted.tolist() == total.counts[name].tolist()
        assert counted.tolist() == record[name]["counts"]  # the training table's own


@few
@given(train=tables, new=tables)
def test_every_row_is_counted_once(counts, train, new):
    counters = counts.Counters(counts.describe(train))
    counters.update(new)
    for name, counted in counters.counts.items():
        rows, missing, infinite, *bins = counted
        assert rows == len(new) == missing + sum(bins)
        if counters.columns[name]["kind"] == counts.NUMBERS:
            assert missing == new[name].isna().sum()
            assert infinite == np.isinf(new[name]).sum()
            low, high = counters.columns[name]["range"]
            outside = (new[name] < low) | (new[name] > high)
            assert bins[0] + bins[-1] == outside.sum()


KINDS = {
    "floats": ([1.5, 2.5, None], {}, "numbers"),
    "nullable integers": ([1, 2, None], {"dtype": "Int64"}, "numbers"),
    "Arrow's numbers": ([1, 2, None], {"dtype": "int64[pyarrow]"}, "numbers"),
    "decimals": ([Decimal("1.5"), Decimal(2), None], {}, "numbers"),
    "texts": (["a", "b", None], {}, "categories"),
    "an empty text is missing": (["a", "b", ""], {}, "categories"),
    "categories": (["a", "b", None], {"dtype": "category"}, "categories"),
    "lists": ([[1], [2], None], {}, "categories"),
    "booleans": ([True, False, None], {}, "booleans"),
    "nullable booleans": ([True, False, None], {"dtype": "boolean"}, "booleans"),
    "Arrow's booleans": ([True, False, None], {"dtype": "bool[pyarrow]"}, "booleans"),
    "dates": (pd.to_datetime(["2020-01-01", "2021-01-01", None]), {}, "dates"),
    "days": ([date(2020, 1, 1), date(2021, 1, 1), None], {}, "dates"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_is_counted(counts, compared, kind):
    values, options, expected = KINDS[kind]
    table = pd.concat([column(values, **options)] * 40, ignore_index=True)
    record = counts.describe(table)["x"]
    assert record["kind"] == expected
    assert record["counts"][:2] == [120, 40]
    same = compared(table, table)["columns"]["x"]
    assert (same["distance"], same["psi"], same["outside"]) == (0, 0, 0)
    gone = compared(table, table[:0].reindex(range(60)))
    assert gone["drifted"] == ["x"]  # all are missing


@pytest.mark.parametrize(
    "values, texts",
    [
        ([1.5, 2, 3], ["1.5", "2", "3"]),
        ([True, False], ["true", "FALSE"]),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), ["2020-01-01", "2021-01-01"]),
        (
            pd.to_datetime(["2020-01-01T12:00+02:00", "2021-01-01T12:00+02:00"]),
            ["2020-01-01T10:00Z", "2021-01-01T10:00Z"],
        ),
    ],
)
def test_a_csv_file_of_texts_is_counted_as_what_was_trained_on(compared, values, texts):
    train = pd.concat([column(values)] * 60, ignore_index=True)
    new = pd.concat([column(texts)] * 60, ignore_index=True)
    found = compared(train, new)["columns"]["x"]
    assert (found["distance"], found["missing"], found["outside"]) == (0, 0, 0)


def test_a_column_without_any_value_is_compared_by_what_is_missing(counts, compared):
    train = column([None] * 60, dtype=float)
    assert counts.describe(train)["x"]["kind"] == "empty"
    assert compared(train, train)["verdict"] == "none"
    assert compared(train, column(range(60)))["verdict"] == "x"


def test_a_long_tail_is_one_bin_and_hides_new_categories(counts, compared):
    rare = [f"{n}" for n in range(200)]
    names = [f"frequent {n % 10}" for n in range(400)] + 2 * rare
    train = column(names)
    record = counts.describe(train)["x"]
    assert len(record["names"]) == counts.MAX_CATEGORIES
    assert record["names"][:10] == [f"frequent {n}" for n in range(10)]
    assert record["counts"][-1] == 400 - 2 * (counts.MAX_CATEGORIES - 10)
    found = compared(train, column([f"new {name}" for name in names]))
    assert found["verdict"] == "x"
    assert "outside" not in found["columns"]["x"]


def test_free_text_is_counted_and_not_kept(counts, compared):
    letters = [f"Dear {n}, here is my bank account" for n in range(100)]
    record = counts.describe(column(letters))["x"]
    assert (record["names"], record["counts"]) == ([], [100, 0, 0, 100])
    others = column([f"Dear {n}, another letter" for n in range(300)])
    assert compared(column(letters), others)["verdict"] == "none"
    empty = column([""] * 200 + letters)
    assert compared(column(letters), empty)["verdict"] == "x"


def test_shares_of_bins_and_of_categories(counts):
    counters = counts.Counters(counts.describe(column([*"aab", None])))
    counters.update(column(["a", "c", "c", "c", None]))
    found = counters.counts["x"].tolist()
    assert counts.bin_shares(found).tolist() == [0.25, 0, 0.75]
    shown = {"names": ["a", "b"], "counts": found}
    shares = {"a": 0.25, "b": 0, "others": 0.75}
    assert counts.category_shares(shown) == shares
    # Nothing was counted, or the column has no categories.
    assert counts.bin_shares([2, 2, 0, 0, 0]).tolist() == [0, 0]
    assert counts.category_shares({"names": ["a"], "counts": [2, 2, 0, 0, 0]}) == {}
    assert counts.category_shares({"counts": found}) == {}
    assert counts.category_shares({}) == {}
