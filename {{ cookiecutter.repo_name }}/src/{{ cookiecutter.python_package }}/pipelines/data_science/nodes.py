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


def describe_training(
    train: pd.DataFrame, predictions: pd.DataFrame, metrics: dict[str, float]
) -> dict[str, Any]:
    """Record what the training looked like, to notice later what has changed.

    Args:
        train: The flowers that the model was trained on.
        predictions: What ``predict`` returns for the rows to test on.
        metrics: What was measured of them.

    Returns:
        The record that the model keeps, and scoring and monitoring compare with.
    """
    highest = predictions.drop(columns=TARGET).max(axis="columns")
    return {
        "features": tracking.describe(train[FEATURES]),
        "target": tracking.describe(train[[TARGET]]),
        "predictions": tracking.describe(predictions[[TARGET]]),
        "mean_probability": float(highest.mean()) if highest.notna().any() else None,
        "metrics": metrics,
    }


def log_model(
    model: Pipeline,
    train: pd.DataFrame,
    test: pd.DataFrame,
    options: dict[str, Any],
    record: dict[str, Any] | None = None,
) -> str:
    """Log the model to MLflow, so that it can be loaded, compared and served.

    Args:
        model: The fitted pipeline.
        train: The flowers that it was trained on.
        test: Flowers, of which the first are logged as input example.
        options: Arguments of ``mlflow.sklearn.log_model``.
        record: What ``describe_training`` returns.

    Returns:
        The URI of the logged model.

    Raises:
        ValueError: The model has no method of the name ``pyfunc_predict_fn``.
    """
    answer_with = options["pyfunc_predict_fn"]
    if not hasattr(model, answer_with):
        raise ValueError(f"The model has no {answer_with}: correct log_options.")
    answers = predict(model, test.head())
    labels, probabilities = answers[TARGET], answers.drop(columns=TARGET)
    outputs = labels if answer_with == "predict" else probabilities
    example = test[FEATURES].head()
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, outputs),
        input_example=example,
        **tracking.sklearn_log_kwargs(model, train[[*FEATURES, TARGET]], record),
        **options,
    )
    return logged.model_uri


def measure(test: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Measure what ``predict`` returns for a table against its true species.

    Returns:
        Accuracy, macro averages of precision, recall and F1 (all 0 to 1) and, if there
        are probabilities, log loss (nats).

    Raises:
        ValueError: The table has a species of which the model has no probability.
    """
    probabilities = predictions.drop(columns=TARGET).sort_index(axis="columns")
    names = [str(name).removeprefix("probability_") for name in probabilities]
    labels = [part[TARGET].map(str) for part in (test, predictions)]
    true, answered = (set(part.unique()) for part in labels)
    if names and (unknown := true - set(names)):
        raise ValueError(f"the model does not know {', '.join(sorted(unknown))}")
    # As numbers: scikit-learn does not compare labels of every type, and sorts text.
    known = [*names, *sorted((true | answered) - set(names))]
    truth, predicted = (pd.Categorical(part, known).codes for part in labels)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, **macro
    )
    metrics = {"accuracy": accuracy_score(truth, predicted)}
    metrics |= {"precision_macro": precision, "recall_macro": recall, "f1_macro": f1}
    if names:
        metrics["log_loss"] = log_loss(truth, probabilities, labels=range(len(names)))
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
