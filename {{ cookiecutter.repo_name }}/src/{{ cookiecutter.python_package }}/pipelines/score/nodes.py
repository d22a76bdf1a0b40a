"""Nodes of the scoring pipeline."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import mlflow
import pandas as pd

from {{ cookiecutter.python_package }} import tracking
from {{ cookiecutter.python_package }}.pipelines import (
    data_science,
)
from {{ cookiecutter.python_package }}.schema import (
    TARGET,
    validate_features,
)

logger = logging.getLogger(__name__)


def score_flowers(
    new_flowers: Iterable[pd.DataFrame], options: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Predict the species of flowers with a logged model, which the run names.

    Args:
        new_flowers: Chunks of a table with the measures in cm, a flower a row.
        options: ``model``, a URI of MLflow; ``input``, where the flowers come from.

    Returns:
        The chunks, with the predicted species and, if the model has probabilities, its
        probability in two more columns. They are predicted as they are saved.

    Raises:
        ClickException: There is no such model.
        ValueError: A chunk is refused: names the input, rows, and column at fault.
    """
    model = tracking.load_model(options["model"])
    run = mlflow.active_run() or mlflow.start_run()  # a notebook has none
    likely = hasattr(model, "predict_proba")
    if not likely:
        logger.info("The model has no probabilities: their column is left out.")

    def score() -> Iterator[pd.DataFrame]:
        rows = 0
        for chunk in new_flowers:
            try:
                if TARGET in chunk:
                    raise ValueError(f"has a column {TARGET} already: rename it")
                predictions = data_science.predict(model, validate_features(chunk))
            except ValueError as error:
                where = options["input"]
                if len(chunk):
                    where = f"{where}, rows {rows + 1} to {rows + len(chunk)}"
                raise ValueError(f"{where}: {error}") from error
            rows += len(chunk)
            scored = chunk.assign(**{TARGET: predictions.pop(TARGET)})
            if likely:
                scored["probability"] = predictions.max(axis=1)
            yield scored
        mlflow.log_metric("rows", rows, run_id=run.info.run_id)  # no longer active

    return score()
