"""Nodes of the data science pipeline, and what they record about the model."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version

import lazy_loader as lazy
from pydantic import BaseModel, Field

from ...schema import FEATURES, TARGET, labels

# Loaded when a node runs: commands that only list pipelines do not wait for them.
mlflow = lazy.load("mlflow")
pd = lazy.load("pandas")
sklearn = lazy.load("sklearn")
figures = lazy.load(f"{__name__.partition('.')[0]}.figures", suppress_warning=True)


class ModelOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The classifier's settings: ``model_options`` in parameters.yml."""

    C: float = Field(gt=0, allow_inf_nan=False)
    max_iter: int = Field(gt=0)


def train_model(
    train: pd.DataFrame, options: ModelOptions
) -> sklearn.pipeline.Pipeline:
    """Fit a multi-class logistic regression on standardised measures.

    Args:
        train: Measures in cm and the species, a flower a row.
        options: Settings of scikit-learn's ``LogisticRegression``.

    Returns:
        A pipeline that takes the columns ``FEATURES`` and predicts the species.
    """
    model = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(),
        sklearn.linear_model.LogisticRegression(**options.model_dump()),
    )
    return model.fit(train[FEATURES], labels(train))


def log_model(model: sklearn.pipeline.Pipeline, flowers: pd.DataFrame) -> str:
    """Log the model to MLflow, so that it can be loaded, compared and served.

    It is logged twice: the second answers requests with probabilities.

    A node of its own, after the trained model is saved: a tracking server that fails
    costs no training, and ``kedro run --from-nodes=log_model`` records it later.

    Args:
        model: The fitted pipeline.
        flowers: Measures in cm, a flower a row; the first are logged as input example.

    Returns:
        The URI of the model that answers with the species.
    """
    example = flowers[FEATURES].head()
    # A named column of strings: a bare array of objects has no type that Spark reads.
    species = pd.Series(model.predict(example), name=TARGET, dtype="str")
    probabilities = pd.DataFrame(model.predict_proba(example), columns=model.classes_)
    pinned = ("mlflow", "pandas", "scikit-learn", "skops")
    log = partial(
        mlflow.sklearn.log_model,
        model,
        input_example=example,
        pip_requirements=[f"{package}=={version(package)}" for package in pinned],
        serialization_format="skops",
    )
    log(
        name="probabilities",
        signature=mlflow.models.infer_signature(example, probabilities),
        pyfunc_predict_fn="predict_proba",
    )
    signature = mlflow.models.infer_signature(example, species)
    return log(name="model", signature=signature).model_uri


def predict(model: sklearn.pipeline.Pipeline, test: pd.DataFrame) -> pd.DataFrame:
    """Predict the species of flowers.

    Args:
        model: The fitted pipeline.
        test: Measures in cm, a flower a row.

    Returns:
        The predicted species and a column of probabilities for each species, rows as
        in ``test``.
    """
    probabilities = pd.DataFrame(
        model.predict_proba(test[FEATURES]), columns=model.classes_
    )
    probabilities.insert(0, TARGET, model.predict(test[FEATURES]))
    return probabilities


def report_accuracy(
    test: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[dict[str, float], figures.Figure]:
    """Measure the predictions against the true species, and record the result.

    Args:
        test: The true species, a flower a row.
        predictions: As ``predict`` returns them, rows as in ``test``.

    Returns:
        Accuracy, macro averages of precision, recall and F1 (all 0 to 1) and log
        loss (nats); the confusion matrix as a figure.
    """
    truth, predicted = labels(test), labels(predictions)
    probabilities = predictions.drop(columns=TARGET)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, average="macro", zero_division=0
    )
    metrics = {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": sklearn.metrics.log_loss(
            truth, probabilities, labels=list(probabilities)
        ),
    }
    metrics = {name: float(value) for name, value in metrics.items()}
    mlflow.log_metrics(metrics)
    now = datetime.now(timezone.utc)
    mlflow.set_tag("time of prediction", now.isoformat(timespec="seconds"))
    return metrics, figures.draw_confusion_matrix(truth, predicted)


def draw_quality(
    model: sklearn.pipeline.Pipeline, test: pd.DataFrame, predictions: pd.DataFrame
) -> figures.Figure:
    """Draw the model's coefficients, its precision and recall, and its calibration.

    Args:
        model: The fitted pipeline.
        test: The true species, a flower a row.
        predictions: As ``predict`` returns them, rows as in ``test``.

    Returns:
        The figure.
    """
    probabilities = predictions[list(model.classes_)]
    return figures.draw_quality(model, labels(test), probabilities)
