"""``tracking.comparison``: two models are measured on the same rows."""

import re
from collections.abc import Callable
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from click import ClickException
from runs import PACKAGE
from sklearn.linear_model import LogisticRegression


@pytest.fixture
def promote(tracking, project_with_models, uris) -> Callable[..., dict]:
    """Return a function that promotes one of the models beside the champion.

    ``values`` are measured one after the other: of the new model, then of the champion.
    An exception among them is raised; without values the models predict.
    """
    options = tracking.promotion.PromoteOptions(PACKAGE, "accuracy")
    table = project_with_models / "data" / "02_intermediate" / "test.parquet"
    rows = pd.read_parquet(table)

    def call(name, *values):
        left = iter(values)

        def measure(model, rows):
            found = (
                next(left) if values else model.predict(rows[model.feature_names_in_])
            )
            if isinstance(found, Exception):
                raise found
            return {"accuracy": found if values else (found == rows["species"]).mean()}

        with mlflow.start_run():
            return tracking.promotion.promote(uris[name], {}, measure, rows, options)

    return call


def pretend_old(monkeypatch, tracking, version="1.6.9"):
    """Have this environment be of another version of scikit-learn."""
    monkeypatch.setattr(tracking.models.metadata, "version", lambda name: version)


def test_a_champion_that_fails_by_its_environment_stays(promote, tracking, monkeypatch):
    predict = LogisticRegression.predict

    def predict_but_the_champions(self, X):
        if self.C == 1.0:
            raise AttributeError("no attribute 'multi_class'")
        return predict(self, X)

    monkeypatch.setattr(LogisticRegression, "predict", predict_but_the_champions)
    pretend_old(monkeypatch, tracking)
    with pytest.raises(ClickException) as caught:
        promote("strong")
    said = caught.value.message
    assert f"version 1 of {PACKAGE}" in said and "multi_class" in said
    assert re.search(r"scikit-learn 1\.\d+\.\d+, here is 1.6.9", said)
    assert re.search(r"pip install scikit-learn==1\.\d+\.\d+", said)
    assert tracking.registry.champion_version(PACKAGE) == "1"


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), OSError("disk"), AttributeError("x")]
)
def test_what_is_not_about_the_data_fails_the_node(promote, tracking, error):
    with pytest.raises(ClickException, match="The champion, version 1, cannot be meas"):
        promote("strong", 1.0, error)
    assert tracking.registry.champion_version(PACKAGE) == "1"


def test_data_that_do_not_fit_the_champion_replace_it(promote):
    refusal = ValueError("The feature names should match those that were passed")
    decision = promote("strong", 1.0, refusal)
    assert decision["decision"] == "champion"
    assert "version 1, not comparable: The feature names" in decision["against"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_champion_whose_metric_is_no_number_is_not_comparable(promote, value):
    decision = promote("strong", 0.5, value)
    assert f"not comparable: its accuracy is {value}" in decision["against"]
    with pytest.raises(
        ClickException, match=f"accuracy is {value}, which is no number"
    ):
        promote("weak", value)


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
