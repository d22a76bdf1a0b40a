"""The nodes of data engineering and data science, called as functions."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.neighbors import RadiusNeighborsClassifier
from sklearn.svm import LinearSVC

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = ["setosa", "versicolor", "virginica"]


@pytest.fixture(scope="module")
def iris(generated) -> pd.DataFrame:
    return pd.read_csv(generated / "data/01_raw/iris.csv")


@pytest.fixture
def split(module):
    return module("pipelines.data_engineering.nodes").split_data


@pytest.fixture
def nodes(module):
    return module("pipelines.data_science.nodes")


def test_both_parts_have_the_same_mix_and_every_row_once(split, iris):
    train, test = split(iris, {"test_size": 0.2, "random_state": 42})
    assert test["species"].value_counts().to_dict() == dict.fromkeys(SPECIES, 10)
    assert sorted([*train.index, *test.index]) == list(iris.index)


def test_a_split_depends_on_its_seed_alone(split, iris):
    first, again, other = (
        list(split(iris, {"test_size": 0.2, "random_state": seed})[1].index)
        for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    "options, error",
    [
        ({"test_size": 1e-9}, ValueError),
        ({"test_size": 2}, ValueError),
        ({"size": 0.2}, TypeError),
    ],
)
def test_options_that_cannot_split_are_refused(split, iris, options, error):
    with pytest.raises(error):
        split(iris, options)


def test_a_model_learns_and_gives_probabilities_a_column_a_species(nodes, iris):
    model = nodes.train_model(iris, {"C": 1.0, "max_iter": 200})
    predictions = nodes.predict(model, iris.set_index(iris.index + 7))
    likely = predictions.drop(columns="species")
    assert list(likely) == [f"probability_{name}" for name in SPECIES]
    assert list(predictions.index) == list(iris.index + 7)
    assert likely.sum(axis=1).to_numpy() == pytest.approx(1)
    highest = likely.idxmax(axis=1).str.removeprefix("probability_")
    assert list(highest) == list(predictions["species"])
    assert (predictions["species"].to_numpy() == iris["species"]).mean() > 0.9


@pytest.mark.parametrize(
    "options, error", [({"c": 1}, TypeError), ({"C": -1}, ValueError)]
)
def test_options_of_the_estimator_are_refused_by_it(nodes, iris, options, error):
    with pytest.raises(error, match="'[cC]'"):
        nodes.train_model(iris, options)


def test_a_model_without_probabilities_predicts_and_has_no_log_loss(
    nodes, iris, caplog
):
    model = LinearSVC().fit(iris[FEATURES], iris["species"])
    predictions = nodes.predict(model, iris)
    assert list(predictions) == ["species"]
    assert set(nodes.measure(iris, predictions)) == {
        "accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
    }


def test_measures_are_plain_numbers_whatever_the_order_of_columns(nodes):
    test = pd.DataFrame({"species": ["a", "a", "b"]})
    columns = {"b": [0.2, 0.6, 0.9], "a": [0.8, 0.4, 0.1]}
    predictions = pd.DataFrame({"species": ["a", "b", "b"], **columns})
    metrics = nodes.measure(test, predictions)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["precision_macro"] == pytest.approx(0.75)
    assert metrics["log_loss"] == pytest.approx(-np.log(0.8 * 0.4 * 0.9) / 3)
    assert {type(value) for value in metrics.values()} == {float}


def test_a_species_that_is_never_predicted_counts_as_zero(nodes, iris):
    model = DummyClassifier().fit(iris[FEATURES], iris["species"])
    metrics = nodes.measure(iris, nodes.predict(model, iris))
    assert metrics["precision_macro"] == pytest.approx(1 / 9)


def test_measures_are_those_of_scikit_learn(nodes, iris):
    model = nodes.train_model(iris.sample(40, random_state=3), {"C": 0.01})
    predictions = nodes.predict(model, iris)
    others = (iris["species"] != "setosa") & (predictions["species"] != "setosa")
    iris, predictions = iris[others], predictions[others]
    metrics = nodes.measure(iris, predictions)
    truth, answers = iris["species"], predictions["species"]
    likely = predictions.drop(columns="species")
    assert set(answers) < set(SPECIES) and 0 < metrics["accuracy"] < 1
    assert metrics["accuracy"] == accuracy_score(truth, answers)
    assert metrics["f1_macro"] == f1_score(truth, answers, average="macro")
    assert metrics["log_loss"] == log_loss(truth, likely, labels=SPECIES)


def test_a_species_that_the_model_does_not_know_is_named(nodes, iris):
    model = nodes.train_model(iris[iris["species"] != "virginica"], {})
    predictions = nodes.predict(model, iris)
    with pytest.raises(ValueError, match="^the model does not know virginica$"):
        nodes.measure(iris, predictions)


@pytest.mark.filterwarnings("ignore:Outlier label", "ignore:The y_prob values")
def test_a_model_may_answer_what_is_no_species(nodes, iris):
    model = RadiusNeighborsClassifier(radius=0.3, outlier_label="unknown")
    model.fit(iris[FEATURES], iris["species"])
    far = iris.assign(sepal_length=iris["sepal_length"].where(iris.index < 90, 99))
    metrics = nodes.measure(far, nodes.predict(model, far))
    truth, answers = far["species"], model.predict(far[FEATURES])
    assert set(answers) == {*SPECIES, "unknown"}
    assert metrics["accuracy"] == accuracy_score(truth, answers)
    assert metrics["f1_macro"] == f1_score(truth, answers, average="macro")


def test_tables_of_different_lengths_are_not_compared(nodes, iris):
    predictions = nodes.predict(nodes.train_model(iris, {}), iris)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        nodes.measure(iris[2:], predictions)


def test_labels_may_be_numbers(nodes, iris):
    numbers = iris.assign(species=iris["species"].map(SPECIES.index))
    model = nodes.train_model(numbers, {})
    metrics = nodes.measure(numbers, nodes.predict(model, numbers))
    assert metrics["accuracy"] > 0.9 and metrics["log_loss"] < 0.3


def test_what_is_reported_is_logged(nodes, iris, project):
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    model = LinearSVC().fit(iris[FEATURES], iris["species"])
    with mlflow.start_run() as run:
        metrics = nodes.report_accuracy(iris, nodes.predict(model, iris))
    assert mlflow.get_run(run.info.run_id).data.metrics == metrics
