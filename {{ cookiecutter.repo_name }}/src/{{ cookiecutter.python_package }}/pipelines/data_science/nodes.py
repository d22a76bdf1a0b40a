"""Nodes of the data science pipeline.

A table has a flower a row: measures in cm in the columns ``FEATURES``, and the species
in ``TARGET``.
"""

import logging
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from {{ cookiecutter.python_package }} import tracking
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET

logger = logging.getLogger(__name__)


def train_model(train: pd.DataFrame, options: dict[str, Any]) -> Pipeline:
    """Fit the estimator on standardised measures.

    Args:
        train: The flowers to learn from.
        options: Arguments of the estimator, which refuses those it does not know.

    Returns:
        A pipeline that takes the columns ``FEATURES`` and predicts the species.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(**options))
    return model.fit(train[FEATURES], train[TARGET])


def predict(model: Pipeline, test: pd.DataFrame) -> pd.DataFrame:
    """Predict the species of flowers, here and in scoring.

    Returns:
        The predicted species and, if the model has probabilities, a column of them
        for each species, by ``label_names``; rows as in ``test``.
    """
    features = test[FEATURES]
    labels = np.ravel(model.predict(features))  # some estimators return a column
    predictions = pd.DataFrame({TARGET: labels}, index=test.index)
    if hasattr(model, "predict_proba"):
        names = label_names(pd.Series(model.classes_))
        predictions[[*names]] = model.predict_proba(features)
    return predictions


def label_names(labels: pd.Series) -> pd.Series:
    """Return the names that ``predict`` gives to the probabilities of labels."""
    return "probability_" + labels.map(str)


def log_model(model: Pipeline, train: pd.DataFrame, test: pd.DataFrame) -> str:
    """Log the model to MLflow, so that it can be loaded, compared and served.

    A model with probabilities is logged a second time, to answer requests with them.

    Args:
        model: The fitted pipeline.
        train: The flowers that it has learnt from.
        test: Flowers, of which the first are logged as input example.

    Returns:
        The URI of the model that answers with the species.
    """
    example = test[FEATURES].head()
    answers = predict(model, test.head())
    log_kwargs = tracking.sklearn_log_kwargs(model, train[[*FEATURES, TARGET]])
    if list(answers) != [TARGET]:
        mlflow.sklearn.log_model(
            model,
            name="probabilities",
            signature=infer_signature(example, answers.drop(columns=TARGET)),
            pyfunc_predict_fn="predict_proba",
            **log_kwargs,
        )
    # A named column: a bare array of texts has no type that Spark reads.
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, answers[TARGET]),
        input_example=example,
        **log_kwargs,
    )
    return logged.model_uri


def measure(test: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Measure what ``predict`` returns for a table against its true species.

    Returns:
        Accuracy, macro averages of precision, recall and F1 (all 0 to 1) and, if there
        are probabilities, log loss (nats).
    """
    # As text: scikit-learn does not compare labels of every type.
    truth, predicted = test[TARGET].map(str), predictions[TARGET].map(str)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, **macro
    )
    metrics = {"accuracy": accuracy_score(truth, predicted)}
    metrics |= {"precision_macro": precision, "recall_macro": recall, "f1_macro": f1}
    probabilities = predictions.drop(columns=TARGET).sort_index(axis="columns")
    if not probabilities.empty:
        species = [name.removeprefix("probability_") for name in probabilities]
        metrics["log_loss"] = log_loss(truth, probabilities, labels=species)
    return {name: float(value) for name, value in metrics.items()}


def report_accuracy(test: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Log to MLflow, and return, what ``measure`` says of the predictions."""
    metrics = measure(test, predictions)
    if "log_loss" not in metrics:
        logger.info("The model has no probabilities: log loss is left out.")
    tracking.log_metrics(metrics)
    return metrics


def promote_model(
    model_uri: str,
    metrics: dict[str, float],
    test: pd.DataFrame,
    options: tracking.PromoteOptions,
) -> dict[str, Any]:
    """Register the model; it becomes champion if it is as good as the present one.

    Args:
        model_uri: The logged model.
        metrics: What was reported of it.
        test: The rows by which it and the champion are measured.
        options: What decides, from ``promote_options``.

    Returns:
        The decision, and what it was made from.
    """

    def measure_model(model: Pipeline, rows: pd.DataFrame) -> dict[str, float]:
        return measure(rows, predict(model, rows))

    return tracking.promote(model_uri, metrics, measure_model, test, options)
