"""``tracking.comparison``: two models are measured on the same rows."""

import re
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from click import ClickException
from sklearn.linear_model import LogisticRegression


@pytest.fixture
def tracking(tracking, project):
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    return tracking


ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": ["a", "a", "b", "b"]})


@pytest.fixture
def log(tracking, module):
    portable = module("tracking.models").sklearn_log_kwargs

    def log_model(C=1.0):
        model = LogisticRegression(C=C).fit(ROWS[["x"]], ROWS["y"])
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model, name="model", input_example=ROWS[["x"]], **portable(model)
            )
        return logged.model_uri

    return log_model


@pytest.fixture
def promote(tracking):
    options = tracking.promotion.PromoteOptions("iris", "accuracy")

    def measure(model, rows):
        return {"accuracy": model.score(rows[["x"]], rows["y"])}

    def call(uri, measure=measure):
        with mlflow.start_run():
            return tracking.promotion.promote(uri, {}, measure, ROWS, options)

    return call


def pretend_old(monkeypatch, tracking, version="1.6.9"):
    """Have this environment be of another version of scikit-learn."""
    monkeypatch.setattr(tracking.models.metadata, "version", lambda name: version)


def test_a_champion_that_fails_by_its_environment_stays(
    log, promote, tracking, monkeypatch
):
    promote(log())
    second = log(2.0)
    champion = LogisticRegression.predict

    def predict(self, X):
        if self.C == 1.0:
            raise AttributeError("no attribute 'multi_class'")
        return champion(self, X)

    monkeypatch.setattr(LogisticRegression, "predict", predict)
    pretend_old(monkeypatch, tracking)
    with pytest.raises(ClickException) as caught:
        promote(second)
    said = caught.value.message
    assert "version 1 of iris" in said and "multi_class" in said
    assert re.search(r"scikit-learn 1\.\d+\.\d+, here is 1.6.9", said)
    assert re.search(r"pip install scikit-learn==1\.\d+\.\d+", said)
    assert tracking.registry.champion_version("iris") == "1"


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), OSError("disk"), AttributeError("x")]
)
def test_what_is_not_about_the_data_fails_the_node(log, promote, tracking, error):
    promote(log())
    second, count = log(), []

    def measure(model, rows):
        count.append(model)
        if len(count) == 2:  # the champion
            raise error
        return {"accuracy": 1.0}

    with pytest.raises(ClickException, match="The champion, version 1, cannot be meas"):
        promote(second, measure)
    assert tracking.registry.champion_version("iris") == "1"


def test_data_that_do_not_fit_the_champion_replace_it(log, promote, tracking):
    promote(log())
    second, count = log(), []

    def measure(model, rows):
        count.append(model)
        if len(count) == 2:
            raise ValueError("The feature names should match those that were passed")
        return {"accuracy": 1.0}

    decision = promote(second, measure)
    assert decision["decision"] == "champion"
    assert "version 1, not comparable: The feature names" in decision["against"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_champion_whose_metric_is_no_number_is_not_comparable(
    log, promote, tracking, value
):
    promote(log())
    second, values = log(), iter([0.5, value])
    decision = promote(second, lambda model, rows: {"accuracy": next(values)})
    assert f"not comparable: its accuracy is {value}" in decision["against"]
    third = log()
    with pytest.raises(
        ClickException, match=f"accuracy is {value}, which is no number"
    ):
        promote(third, lambda model, rows: {"accuracy": value})


def trained_on(module, rows):
    """Return what MLflow returns for a model that was trained on rows."""
    kept = module("tracking.training_rows").describe(rows)
    return SimpleNamespace(metadata=SimpleNamespace(metadata=kept))


MANY = pd.DataFrame({"x": range(10), "y": ["a", "b"] * 5})


@pytest.mark.parametrize(
    ("new", "champion", "used", "remark"),
    [
        (MANY[:0], MANY[:0], MANY, ""),
        (MANY[:6], MANY[:0], MANY, ""),  # its own test rows are the owner's choice
        (MANY[:0], MANY[:3], MANY[3:], ", on 7 rows that neither was trained on"),
        (MANY[7:], MANY[:2], MANY[2:7], ", on 5 rows that neither was trained on"),
        (MANY[:0], MANY[:6], MANY, ", which was trained on 6 of these 10 rows"),
    ],
)
def test_rows_that_a_model_was_trained_on_do_not_decide(
    tracking, module, new, champion, used, remark
):
    models = (trained_on(module, new), trained_on(module, champion))
    rows, said = tracking.comparison.fair_rows(*models, MANY)
    assert rows.equals(used) and said == remark


def test_a_model_that_kept_no_rows_is_measured_on_all(tracking):
    unknown = SimpleNamespace(metadata=SimpleNamespace(metadata=None))
    rows, said = tracking.comparison.fair_rows(unknown, unknown, MANY)
    assert rows.equals(MANY) and said == ""
