"""``pipelines.tune``: a search in a real run, its failures and its picture."""

import mlflow
import pandas as pd
import pytest
from runs import recorded
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
GRID = {"logisticregression__C": [0.01, 1.0]}
OPTIONS = {"search": "GridSearchCV", "cv": 2, "param_grid": GRID}


@pytest.fixture
def tune(module):
    return module("pipelines.tune.nodes")


@pytest.fixture(scope="module")
def iris(generated) -> pd.DataFrame:
    return pd.read_csv(generated / "data/01_raw/iris.csv")


def test_each_candidate_is_a_child_run_and_the_best_is_returned(tune, iris, project):
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    untuned = make_pipeline(LogisticRegression())
    with mlflow.start_run() as parent:
        best, table = tune.tune_model(untuned, iris, OPTIONS, {"n_jobs": 1})
    assert best[-1].C == 1.0 and len(table) == 2
    children = recorded(project)
    children = [run for run in children if run.id != parent.info.run_id]
    assert {run.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.params["logisticregression__C"] for run in children} == {"0.01", "1.0"}
    assert OPTIONS["search"] == "GridSearchCV"  # what was given stays


def test_a_search_that_fails_says_where_and_why(tune, iris):
    options = {**OPTIONS, "param_grid": {"logisticregression__D": [1]}}
    with pytest.raises(RuntimeError, match="the search on this machine has failed: "):
        tune.tune_model(make_pipeline(LogisticRegression()), iris, options, {})


def test_a_class_that_does_not_exist_is_named(tune, iris):
    with pytest.raises(AttributeError, match="NoSearch"):
        tune.tune_model(None, iris, {"search": "NoSearch"}, {})


SCALES = {
    "wide": ([0.01, 1.0], "log"),
    "narrow": ([1.0, 2.0], "linear"),
    "texts": (["a", "b"], "linear"),
    "booleans": ([True, False], "linear"),
}


@pytest.mark.parametrize("values, scale", SCALES.values(), ids=SCALES)
def test_the_picture_has_a_plot_for_each_option(tune, values, scale):
    scores = {"mean_test_score": [0.5, 0.9], "std_test_score": [0.1, 0.1]}
    table = pd.DataFrame({**scores, "param_x": values, "param_y": [1, 2]})
    first, second = tune.draw_search(table).axes
    assert (first.get_xlabel(), second.get_xlabel()) == ("x", "y")
    assert first.get_xscale() == scale
    assert first.get_ylabel() == "mean_test_score"
