"""The nodes, called as functions."""

import math

import mlflow
import pandas as pd
import pytest

from {{ cookiecutter.python_package }}.pipelines import (
    data_engineering,
    data_science,
)

split_data = data_engineering.nodes.split_data
SPLIT = data_engineering.nodes.SplitOptions(test_size=0.2, random_state=42)
MODEL = data_science.nodes.ModelOptions(C=1.0, max_iter=200)


def test_split_keeps_every_flower_once_and_the_mix_of_species(iris):
    train, test = split_data(iris, SPLIT)
    assert sorted([*train.index, *test.index]) == list(iris.index)
    assert test["species"].value_counts().tolist() == [10, 10, 10]


def test_split_is_repeatable_and_depends_on_the_seed(iris):
    _, test = split_data(iris, SPLIT)
    _, again = split_data(iris, SPLIT)
    _, other = split_data(iris, SPLIT.model_copy(update={"random_state": 1}))
    assert list(test.index) == list(again.index) != list(other.index)


def test_a_part_too_small_for_every_species_is_refused(iris):
    with pytest.raises(ValueError, match="test_size = 1 "):
        split_data(iris, SPLIT.model_copy(update={"test_size": 0.001}))


def test_the_model_knows_the_species(iris):
    model = data_science.nodes.train_model(iris, MODEL)
    predictions = data_science.nodes.predict(model, iris)
    assert (predictions["species"] == iris["species"]).mean() >= 0.95
    probabilities = predictions.drop(columns="species")
    assert sorted(probabilities) == sorted(iris["species"].unique())
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1)


def test_metrics_are_measured_and_recorded():
    test = pd.DataFrame({"species": ["setosa", "setosa", "virginica"]})
    predictions = pd.DataFrame(
        {
            "species": ["setosa", "virginica", "virginica"],
            "setosa": [0.8, 0.4, 0.1],
            "virginica": [0.2, 0.6, 0.9],
        }
    )
    with mlflow.start_run() as run:
        metrics, figure = data_science.nodes.report_accuracy(test, predictions)
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
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "0", "1"]
