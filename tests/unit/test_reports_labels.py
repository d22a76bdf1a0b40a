"""Labels of any type are predicted, measured, drawn, and come back as they were."""

import logging

import mlflow
import numpy as np
import pandas as pd
import pytest

LABELS = {
    "bool": ([False, True], "bool"),
    "boolean": ([False, True], "boolean"),
    "bool[pyarrow]": ([False, True], "bool[pyarrow]"),
    "Int64": ([2, 10], "Int64"),
    "int64[pyarrow]": ([2, 10], "int64[pyarrow]"),
    "int8": ([-1, 1], "int8"),
    "float": ([1.0, 2.0], "float"),
    "Float64": ([1.0, 2.0], "Float64"),
    "datetime": (pd.to_datetime(["2026-01-01", "2026-02-01"]), "datetime64[ns]"),
    "text": (["a", "b"], None),
    "string": (["a", "b"], "string"),
    "categories": (["a", "b"], "category"),
    "categories of numbers": ([1, 2], "category"),
    "the target's name": (["species", "sepal_length"], None),
    "mathematics": (["$a$", "$\\frac{$"], None),
    "an open dollar": (["5$", "a_b^c"], None),
}


@pytest.fixture
def train(module):
    """Return a function that trains on flowers with labels; returns what nodes do."""
    schema, nodes = module("schema"), module("pipelines.data_science.nodes")

    def run(labels: pd.Series):
        shift = np.arange(len(labels)) % 7 / 10
        first = labels.astype(object) == labels.iloc[0]
        measures = {name: 1 + 4 * first + shift for name in schema.FEATURES}
        table = pd.DataFrame({**measures, schema.TARGET: labels})
        table = schema.validate_iris(table)
        model = nodes.train_model(table, {})
        return table, model, nodes.predict(model, table)

    return run


def of_kind(kind: str) -> pd.Series:
    """Return forty labels of a kind."""
    values, dtype = LABELS[kind]
    return pd.Series([*values] * 20, dtype=dtype)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were(module, train, kind):
    labels = of_kind(kind)
    table, model, predictions = train(labels)
    nodes = module("pipelines.data_science.nodes")
    target = module("schema").TARGET
    assert list(predictions[target]) == list(labels)
    metrics = nodes.measure(table, predictions)
    assert metrics["accuracy"] == 1 and metrics["log_loss"] < 0.5
    features = table[module("schema").FEATURES]
    signature = mlflow.models.infer_signature(features, predictions[target])
    assert signature.outputs


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_drawn(module, train, kind, caplog):
    table, model, predictions = train(of_kind(kind))
    with caplog.at_level(logging.WARNING):
        figures = module("pipelines.data_science.figures")
        confusion = figures.draw_confusion(table, predictions)
        quality = figures.draw_quality(model, table, predictions)
        if "$" in str(LABELS[kind]):  # what else fails, fails where it is drawn
            confusion.savefig("confusion.png")
            quality.savefig("quality.png")
    assert "missing" not in caplog.text


def test_a_column_of_predictions_is_flattened(module, train):
    table, model, predictions = train(pd.Series(["a", "b"] * 20))

    class Column:
        classes_ = model.classes_
        predict_proba = model.predict_proba

        def predict(self, data):
            return model.predict(data).reshape(-1, 1)

    nodes = module("pipelines.data_science.nodes")
    pd.testing.assert_frame_equal(nodes.predict(Column(), table), predictions)


def test_a_picture_that_cannot_be_drawn_is_a_warning(module, train, caplog):
    table, _, predictions = train(pd.Series(["a", "b"] * 20))
    figures = module("pipelines.data_science.figures")
    quality = figures.draw_quality(None, table, predictions)
    assert not quality.axes
    quality.savefig("picture.png")
    assert "A picture is missing: draw_quality has failed: " in caplog.text
