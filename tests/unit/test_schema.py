"""``schema``: which tables are refused, and what the refusal says."""

import pandas as pd
import pytest

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
GOOD = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def schema(module):
    return module("schema")


def flowers(*rows, columns=FEATURES) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns)


def labelled(*species) -> pd.DataFrame:
    return flowers(*[GOOD] * len(species)).assign(species=species)


def test_measures_become_floats_and_other_columns_stay(schema):
    given = flowers(["1", "2.5", "3e1", "1e300"]).assign(note="007")
    table = schema.validate_features(given)
    assert table[FEATURES].values.tolist() == [[1.0, 2.5, 30.0, 1e300]]
    assert set(table[FEATURES].dtypes.map(str)) == {"float64"}
    assert table["note"].tolist() == ["007"]
    assert given["sepal_length"].tolist() == ["1"]


@pytest.mark.parametrize(
    "value",
    ["", "wide", "nan", None, float("nan"), "inf", "-inf", "1e999", 0, -5, "-5"],
)
def test_what_is_not_a_positive_number_is_refused(schema, value):
    with pytest.raises(ValueError, match=r"positive number: sepal_length \(1 rows\)$"):
        schema.validate_features(flowers(GOOD, [value, *GOOD[1:]]))


MIXED = {
    "text and numbers": ([5.1, "wide"], 1),
    "numbers and text": (["wide", 5.1], 1),
    "numbers and texts of numbers": ([-1, "5.1"], 1),
    "dates": (pd.to_datetime(["2026-01-01"] * 2), 2),
    "text and dates": ([pd.Timestamp("2026-01-01"), "5.1"], 1),
    "lists": ([[5.1], [5.1]], 2),
    "more than 64 bits": ([2**70, -1], 1),
}


@pytest.mark.parametrize("values, count", MIXED.values(), ids=MIXED)
def test_columns_of_any_type_are_named_with_their_rows(schema, values, count):
    table = flowers(GOOD, GOOD).assign(sepal_length=values)
    why = rf"^not a positive number: sepal_length \({count} rows\)$"
    with pytest.raises(ValueError, match=why):
        schema.validate_features(table)


def test_each_column_at_fault_is_named_with_its_rows(schema):
    table = flowers(["x", "1", "1", "-1"], ["1", "1", "1", "-1"])
    with pytest.raises(ValueError, match=r"sepal_length \(1 rows\), petal_width \(2 "):
        schema.validate_features(table)


def test_missing_columns_are_named_with_those_found(schema):
    table = flowers(GOOD[:3], columns=FEATURES[:3])
    message = r"missing column\(s\): petal_width; found: sepal_length, sepal_width, "
    with pytest.raises(ValueError, match=message):
        schema.validate_features(table)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_separator_is_guessed(schema, mark):
    table = pd.DataFrame({mark.join(FEATURES): ["1"]})
    with pytest.raises(ValueError) as refused:
        schema.validate_features(table)
    assert f"separated by {mark!r}: set load_args: sep" in str(refused.value)


def test_a_table_without_rows_is_refused(schema):
    with pytest.raises(ValueError, match="the table has no rows"):
        schema.validate_features(flowers())


LABELS = {
    "none": (["a", None, ""], r"no label: species \(2 rows\)"),
    "one": (["a", "a"], "every species is a: add rows of another"),
    "single": (["a", "a", "b"], "one row only of species b: add rows of it"),
}


@pytest.mark.parametrize("species, message", LABELS.values(), ids=LABELS)
def test_labels_that_cannot_be_learnt_are_refused(schema, species, message):
    with pytest.raises(ValueError, match=message):
        schema.validate_iris(labelled(*species))


def test_training_data_need_measures_and_the_species(schema):
    table = labelled("a", "a", "b", "b")
    assert schema.validate_iris(table).equals(table)
    with pytest.raises(ValueError, match=r"missing column\(s\): species"):
        schema.validate_iris(table.drop(columns="species"))
    with pytest.raises(ValueError, match=r"sepal_width \(4 rows\)"):
        schema.validate_iris(table.assign(sepal_width=0))
