"""Nodes of the scoring pipeline."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import mlflow
import pandas as pd
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }} import tracking
from {{ cookiecutter.python_package }}.schema import (
    FEATURES,
    TARGET,
    validate_features,
)

logger = logging.getLogger(__name__)


def score_flowers(
    new_flowers: Iterable[pd.DataFrame], options: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Predict the species of flowers with a logged model, chunk by chunk.

    The MLflow run names the model as its input, and in its tags.

    Args:
        new_flowers: Chunks of a table with the measures in cm, a flower a row.
        options: ``model``, a URI of MLflow; ``input``, where the flowers come from.

    Returns:
        The chunks, with the predicted species and, if the model has probabilities, its
        probability in two more columns.

    Raises:
        ClickException: There is no such model.
    """
    model = tracking.load_model(options["model"])
    if not hasattr(model, "predict_proba"):
        logger.info("The model has no probabilities: their column is left out.")
    run = mlflow.active_run() or mlflow.start_run()  # in a notebook there is none
    return score_chunks(new_flowers, model, options["input"], run.info.run_id)


def score_chunks(
    chunks: Iterable[pd.DataFrame], model: Pipeline, source: str, run_id: str
) -> Iterator[pd.DataFrame]:
    """Predict chunk by chunk, and record how many flowers there were.

    Args:
        chunks: Tables with the measures in cm, a flower a row.
        model: The fitted pipeline.
        source: Where the chunks come from.
        run_id: The MLflow run, which is no longer active when the chunks are read.

    Yields:
        Each chunk with the predicted species and its probability.

    Raises:
        ValueError: Names the source, the column at fault, and its rows.
    """
    rows = 0
    for chunk in chunks:
        try:
            if TARGET in chunk:
                raise ValueError(f"has a column {TARGET} already: rename it")
            features = validate_features(chunk)[FEATURES]
        except ValueError as error:
            place = f"{source}, rows {rows + 1} to {rows + len(chunk)}"
            raise ValueError(f"{place if len(chunk) else source}: {error}") from error
        rows += len(chunk)
        scored = chunk.assign(**{TARGET: model.predict(features)})
        if hasattr(model, "predict_proba"):
            scored["probability"] = model.predict_proba(features).max(axis=1)
        yield scored
    mlflow.log_metric("rows", rows, run_id=run_id)
