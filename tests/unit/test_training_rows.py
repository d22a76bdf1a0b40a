"""``tracking.training_rows``: which rows a model was trained on."""

import json

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def rows(module):
    return module("tracking.training_rows")


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    numbers = random.normal(size=(20_000, 2))
    names = [f"row {number}" for number in range(len(numbers))]
    return pd.DataFrame(numbers, columns=["a", "b"]).assign(text=names)


def test_each_row_of_a_small_table_is_known(rows, table):
    train, test = table[:100], table[90:200]
    kept = json.loads(json.dumps(rows.describe(train)))
    assert list(rows.seen(kept, test)) == [1.0] * 10 + [0.0] * 100


def test_the_order_of_rows_and_the_index_do_not_matter(rows, table):
    kept = rows.describe(table[:100].sample(frac=1, random_state=0))
    assert rows.seen(kept, table[:100].set_index(np.arange(100) + 7)).all()


def test_of_a_large_table_a_sample_is_known(rows, table):
    train = table[:15_000]
    kept = rows.describe(train)
    found = rows.seen(kept, table)
    known = ~np.isnan(found)
    assert (
        rows.MAX_DIGESTS
        <= known.sum()
        < 1.1 * rows.MAX_DIGESTS * len(table) / len(train)
    )
    expected = np.arange(len(table)) < len(train)
    assert (found[known] == expected[known]).all()
    assert len(json.dumps(kept)) < 60_000


def test_other_columns_are_not_comparable(rows, table):
    kept = rows.describe(table[:10])
    assert rows.seen(kept, table[["a"]]) is None
    assert rows.seen(None, table) is None and rows.seen({}, table) is None
    assert rows.seen(kept, table[:10].assign(more=1)).all()


def test_rows_without_a_digest_are_not_kept(rows):
    assert rows.describe(pd.DataFrame({"a": [[1, 2], [3]]})) is None
