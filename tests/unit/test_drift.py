"""``tracking.drift``: does a table look as the training table did?"""

import numpy as np
import pandas as pd
import pytest
from click import ClickException
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tables import column, few, tables


@pytest.fixture
def drift(module):
    return module("tracking.drift")


SHAPES = {
    "normal": lambda random, rows: random.normal(size=rows),
    "long tail": lambda random, rows: random.lognormal(0, 2, size=rows),
    "integers": lambda random, rows: random.poisson(3, size=rows),
    "mostly zero": lambda random, rows: np.where(
        random.random(rows) < 0.6, 0, random.normal(size=rows)
    ),
    "two values": lambda random, rows: random.integers(0, 2, size=rows),
    "constant": lambda random, rows: np.ones(rows),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n, m", [(120, 60), (1000, 5000)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 10.0])
def test_ks_from_the_bins_is_that_of_the_values(compared, shape, n, m, shift):
    random = np.random.default_rng(0)
    train, new = SHAPES[shape](random, n), SHAPES[shape](random, m) + shift
    found = compared(column(train), column(new))["columns"]["x"]
    truth = stats.ks_2samp(train, new, method="asymp")
    assert truth.statistic - 0.05 <= found["ks"] <= truth.statistic + 1e-12
    assert found["p"] >= truth.pvalue - 1e-12  # the bins never add significance


@few
@given(
    train=st.lists(st.integers(0, 30), min_size=120, max_size=200),
    new=st.lists(st.integers(0, 40), min_size=1, max_size=100),
)
def test_ks_from_the_bins_is_within_0_05_for_any_values(compared, train, new):
    found = compared(column(train, dtype=float), column(new, dtype=float))
    truth = stats.ks_2samp(train, new, method="asymp").statistic
    assert truth - 0.05 <= found["columns"]["x"]["ks"] <= truth + 1e-12


def test_the_p_value_is_that_of_scipy_for_the_same_distance(compared):
    random = np.random.default_rng(1)
    train, new = random.integers(0, 10, 200), random.integers(1, 11, 70)
    found = compared(column(train), column(new))["columns"]["x"]
    truth = stats.ks_2samp(train, new, method="asymp")
    assert found["ks"] == pytest.approx(truth.statistic)  # a value has a bin of its own
    assert found["p"] == pytest.approx(truth.pvalue)


@pytest.mark.parametrize("names", ["abc", [True, False], "abcdefghijklm"])
def test_chi_squared_is_that_of_the_values(compared, names):
    random = np.random.default_rng(2)
    train, new = random.choice([*names], 400), random.choice([*names, names[0]], 300)
    found = compared(column(train), column(new))["columns"]["x"]
    truth = stats.chi2_contingency(
        pd.crosstab(np.repeat([0, 1], [400, 300]), np.concatenate([train, new])),
        correction=False,
    )
    assert found["chi2"] == pytest.approx(truth.statistic)
    assert found["p"] == pytest.approx(truth.pvalue)
    shares = [pd.Series(table).value_counts(normalize=True) for table in (train, new)]
    difference = (shares[0] - shares[1]).abs().sum() / 2
    assert found["distance"] == pytest.approx(difference)


def test_rare_categories_are_tested_as_one(compared):
    train = ["a"] * 90 + ["b"] * 10 + [f"rare {n}" for n in range(20)]
    new = ["a"] * 45 + ["b"] * 5 + [f"rare {n}" for n in range(10)]
    found = compared(column(train), column(new))["columns"]["x"]
    assert (found["chi2"], found["distance"]) == (0, 0)
    assert found["p"] == 1


@few
@given(train=tables, new=tables)
def test_whatever_is_compared_has_finite_measures(compared, train, new):
    for found in compared(train, new, min_rows=1)["columns"].values():
        assert 0 <= found["distance"] <= 1 + 1e-12
        assert 0 <= found["p"] <= 1 + 1e-12
        assert all(np.isfinite(v) for v in found.values() if isinstance(v, float))


@pytest.mark.parametrize("values", [range(120), ["a", "b"] * 60], ids=["1", "a"])
@pytest.mark.parametrize("before", [0, 5])
def test_cells_that_go_missing_are_drift_if_few_were_missing_before(
    compared, values, before
):
    cells = pd.Series([*values])
    train = column(cells.mask(cells.index < before))
    found = compared(train, column(cells.mask(cells.index % 4 == 0)))["columns"]["x"]
    assert found["drifted"]
    assert found["distance"] == pytest.approx(0.25 - before / 120)
    for some in (cells, cells.mask(cells.index % 20 == 0)):
        assert compared(train, column(some))["verdict"] == "none"


def test_of_a_constant_column_every_other_value_is_outside(compared):
    found = compared(column([3.0] * 100), column([3.0] * 50 + [4.0] * 50))
    assert found["verdict"] == "x"
    assert found["columns"]["x"]["outside"] == 0.5
    assert found["columns"]["x"]["ks"] == 0.5


def test_unknown_categories_are_outside(compared):
    found = compared(column([*"ab"] * 50), column([*"ac"] * 50))["columns"]["x"]
    assert found["outside"] == 0.5


def test_infinite_numbers_are_outside_the_range(compared):
    new = column([*np.linspace(0, 1, 98), np.inf, -np.inf])
    found = compared(column(np.linspace(0, 1, 100)), new)["columns"]["x"]
    assert found["infinite"] == found["outside"] == 0.02
    assert found["ks"] < 0.05


def test_psi_of_two_shares(compared):
    train, new = column([*"ab"] * 50), column([*"aaab"] * 25)
    found = compared(train, new)["columns"]["x"]
    expected = 0.25 * np.log(0.75 / 0.5) - 0.25 * np.log(0.25 / 0.5)
    assert found["psi"] == pytest.approx(expected)


def table(random, rows, shift=0.0):
    return pd.DataFrame(
        {
            "a": random.normal(size=rows),
            "b": random.normal(size=rows) + shift,
            "c": random.choice([*"xyz"], rows),
        }
    )


def test_the_worst_column_is_named_first(compared):
    random = np.random.default_rng(3)
    new = table(random, 500, shift=0.7).assign(a=random.normal(2, size=500))
    found = compared(table(random, 500), new)
    assert found["verdict"] == "a, b"
    assert [*found["columns"]] == ["a", "b", "c"]
    assert found["drifted"] == ["a", "b"]


def test_what_is_significant_and_small_has_not_drifted(compared):
    random = np.random.default_rng(4)
    found = compared(table(random, 50_000), table(random, 50_000, shift=0.15))
    assert found["columns"]["b"]["p"] < 1e-20
    assert found["verdict"] == "none"


def test_what_is_large_by_chance_has_not_drifted(compared):
    random = np.random.default_rng(5)
    found = compared(table(random, 120), table(random, 50))
    assert max(column["distance"] for column in found["columns"].values()) > 0.1
    assert found["verdict"] == "none"


def test_few_rows_get_no_verdict(compared):
    random = np.random.default_rng(6)
    found = compared(table(random, 100), table(random, 6, shift=9))
    assert found["verdict"] == "too few rows (6)"
    assert found["drifted"] == []
    assert compared(table(random, 100), table(random, 6, shift=9), min_rows=6)[
        "drifted"
    ] == ["b"]


def test_columns_that_are_not_there_are_named(compared):
    random = np.random.default_rng(7)
    new = table(random, 60).rename(columns={"b": "renamed"})
    found = compared(table(random, 100), new)
    assert found["not_found"] == ["b"]
    assert found["verdict"] == "none"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on_drift": "panic"}, "on_drift is warn or fail, not 'panic'"),
        ({"on_drift": None}, "on_drift is warn or fail, not None"),
        ({"alpha": "small"}, "alpha is no number: 'small'"),
        ({"alpha": float("nan")}, "alpha is no number: nan"),
        ({"alpha": 5}, "alpha is from 0 to 1, not 5"),
        ({"min_distance": -0.1}, "min_distance is from 0 to 1, not -0.1"),
        ({"min_distance": None}, "min_distance is no number: None"),
        ({"min_rows": True}, "min_rows is no number: True"),
        ({"min_rows": -1}, "min_rows is at least 0, not -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(drift, options, message):
    with pytest.raises(ClickException, match=f"^drift_options.{message}"):
        drift.DriftOptions(**options).check()


@pytest.mark.parametrize("share", [0, 1, 0.5])
def test_options_may_be_at_their_limits(drift, share):
    drift.DriftOptions(alpha=share, min_distance=share, min_rows=0).check()


def test_rare_categories_do_not_seem_to_drift(compared):
    """Those in a small training table are not those in the next table."""
    random = np.random.default_rng(8)
    shares = 1 / np.arange(1, 201)

    def draw(rows):
        return column(random.choice(200, rows, p=shares / shares.sum()).astype(str))

    verdicts = [compared(draw(120), draw(5000))["verdict"] for _ in range(100)]
    assert verdicts.count("none") >= 98
