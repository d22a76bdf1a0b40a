"""The nodes, called as functions."""

import math

import mlflow
import pandas as pd
import pytest

from {{ cookiecutter.python_package }}.pipelines import (
    data_engineering,
    data_science,
)
from {{ cookiecutter.python_package }}.schema import TARGET

split_data = data_engineering.nodes.split_data
nodes = data_science.nodes


@pytest.fixture(autouse=True)
def run():
    """Return the run that is active, to which nodes may log."""
    with mlflow.start_run() as run:
        yield run


def test_split_keeps_every_row_once(iris, parameters):
    train, test = split_data(iris, parameters["split_options"])
    assert sorted([*train.index, *test.index]) == list(iris.index)
    assert list(train) == list(test) == list(iris)


def test_split_is_repeatable_and_depends_on_the_seed(iris, parameters):
    options = parameters["split_options"]
    _, test = split_data(iris, options)
    _, again = split_data(iris, options)
    _, other = split_data(iris, {**options, "random_state": 1})
    assert list(test.index) == list(again.index) != list(other.index)


def test_a_part_too_small_is_refused(iris, parameters):
    with pytest.raises(ValueError, match="test_size"):
        split_data(iris, {**parameters["split_options"], "test_size": 1e-9})


def test_the_model_learns_and_what_decides_is_measured(iris, parameters):
    train, test = split_data(iris, parameters["split_options"])
    model = nodes.train_model(train, parameters["model_options"])
    predictions = nodes.predict(model, test)
    assert len(predictions) == len(test) and predictions[TARGET].notna().all()
    metrics = nodes.measure(test, predictions)
    assert all(math.isfinite(value) for value in metrics.values())
    guessed = nodes.measure(test, predictions.sample(frac=1, random_state=0))
    options = parameters["promote_options"]
    ahead = metrics[options["metric"]] - guessed[options["metric"]]
    assert ahead > 0 if options["better"] == "more" else ahead < 0


def test_metrics_are_measured_and_recorded(run):
    test = pd.DataFrame({TARGET: ["a", "a", "b"]})
    predictions = pd.DataFrame({TARGET: ["a", "b", "b"]})
    predictions[[*nodes.label_names(pd.Series(["a", "b"]))]] = [
        [0.8, 0.2],
        [0.4, 0.6],
        [0.1, 0.9],
    ]
    metrics = nodes.report_accuracy(test, predictions)
    assert metrics == pytest.approx(
        {
            "accuracy": 2 / 3,
            "precision_macro": (1 + 1 / 2) / 2,
            "recall_macro": (1 / 2 + 1) / 2,
            "f1_macro": 2 / 3,
            "log_loss": -math.log(0.8 * 0.4 * 0.9) / 3,
        }
    )
    assert mlflow.get_run(run.info.run_id).data.metrics == metrics
