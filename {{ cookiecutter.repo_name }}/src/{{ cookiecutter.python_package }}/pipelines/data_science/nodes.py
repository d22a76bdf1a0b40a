"""Nodes of the data science pipeline, and what they record about the model."""

import logging
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    precision_recall_fscore_support,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from {{ cookiecutter.python_package }} import tracking
from {{ cookiecutter.python_package }}.schema import (
    FEATURES,
    TARGET,
)

logger = logging.getLogger(__name__)


def train_model(train: pd.DataFrame, options: dict[str, Any]) -> Pipeline:
    """Fit a multi-class logistic regression on standardised measures.

    Args:
        train: Measures in cm and the species, a flower a row.
        options: Arguments of scikit-learn's ``LogisticRegression``.

    Returns:
        A pipeline that takes the columns ``FEATURES`` and predicts the species.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(**options))
    return model.fit(train[FEATURES], train[TARGET])


def log_model(model: Pipeline, test: pd.DataFrame) -> str:
    """Log the model to MLflow, so that it can be loaded, compared and served.

    A model with probabilities is logged a second time, to answer requests with them.

    Args:
        model: The fitted pipeline.
        test: Measures in cm, a flower a row; the first are logged as input example.

    Returns:
        The URI of the model that answers with the species.
    """
    example = test[FEATURES].head()
    options = {"input_example": example, **tracking.portable(model)}
    answers = predict(model, example)
    if list(answers) != [TARGET]:
        mlflow.sklearn.log_model(
            model,
            name="probabilities",
            signature=infer_signature(example, answers.drop(columns=TARGET)),
            pyfunc_predict_fn="predict_proba",
            **options,
        )
    # A named column: a bare array of texts has no type that Spark reads.
    signature = infer_signature(example, answers[TARGET])
    logged = mlflow.sklearn.log_model(
        model, name="model", signature=signature, **options
    )
    return logged.model_uri


def predict(model: Pipeline, test: pd.DataFrame) -> pd.DataFrame:
    """Predict the species of flowers.

    Args:
        model: The fitted pipeline.
        test: Measures in cm, a flower a row.

    Returns:
        The predicted species and, if the model has probabilities, a column of them
        for each species; rows as in ``test``.
    """
    features = test[FEATURES]
    predictions = pd.DataFrame({TARGET: model.predict(features)})
    if not hasattr(model, "predict_proba"):
        return predictions
    species = [str(name) for name in model.classes_]
    probabilities = pd.DataFrame(model.predict_proba(features), columns=species)
    return predictions.join(probabilities)


def measure(test: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Measure predictions against the true species.

    Args:
        test: The true species, a flower a row.
        predictions: As ``predict`` returns them, rows as in ``test``.

    Returns:
        Accuracy, macro averages of precision, recall and F1 (all 0 to 1) and, if there
        are probabilities, log loss (nats).
    """
    truth, predicted = test[TARGET], predictions[TARGET]
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, **macro
    )
    metrics = {
        "accuracy": accuracy_score(truth, predicted),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
    }
    probabilities = predictions.drop(columns=TARGET).sort_index(axis="columns")
    if not probabilities.empty:
        species = list(probabilities)
        metrics["log_loss"] = log_loss(truth.astype(str), probabilities, labels=species)
    return {name: float(value) for name, value in metrics.items()}


def report_accuracy(test: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Measure the predictions, and log the metrics to MLflow.

    Args:
        test: The true species, a flower a row.
        predictions: As ``predict`` returns them, rows as in ``test``.

    Returns:
        The metrics of ``measure``.
    """
    metrics = measure(test, predictions)
    if "log_loss" not in metrics:
        logger.info("The model has no probabilities: log loss is left out.")
    tracking.log_metrics(metrics)
    return metrics


def promote_model(
    model_uri: str,
    metrics: dict[str, float],
    test: pd.DataFrame,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Register the model; it becomes champion if it is as good as the present one.

    Args:
        model_uri: The logged model.
        metrics: What ``report_accuracy`` has measured of it.
        test: Measures in cm and the true species, by which the champion is measured.
        options: ``name``, ``metric``, ``better``, ``margin`` of ``tracking.promote``.

    Returns:
        The decision, and what it was made from.
    """

    def measure_champion(champion: Pipeline) -> dict[str, float]:
        return measure(test, predict(champion, test))

    return tracking.promote(model_uri, metrics, measure_champion, **options)
