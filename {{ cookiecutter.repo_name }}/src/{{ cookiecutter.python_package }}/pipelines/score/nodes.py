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
    FEATURES,
    TARGET,
    validate_features,
)

logger = logging.getLogger(__name__)


def score_flowers(
    new_flowers: Iterable[pd.DataFrame], options: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Predict the species of flowers with a logged model, which the run names.

    Args:
        new_flowers: Chunks of a table with the measures in cm, a flower a row; or a
            table of Dask's.
        options: ``model``, a URI of MLflow; ``input``, where the flowers come from.

    Returns:
        The same, with the predicted species and, if the model has probabilities, its
        probability in two more columns. They are predicted as they are saved.

    Raises:
        ClickException: There is no such model.
        ValueError: A chunk is refused: names the input, rows, and column at fault.
    """
    model = tracking.load_model(options["model"])
    run = mlflow.active_run() or mlflow.start_run()  # a notebook has none
    likely = hasattr(model, "predict_proba")
    predict = data_science.predict  # `score` may go to a cluster: modules cannot
    if not likely:
        logger.info("The model has no probabilities: their column is left out.")

    def score(chunk: pd.DataFrame, before: int = 0) -> pd.DataFrame:
        try:
            if TARGET in chunk:
                raise ValueError(f"has a column {TARGET} already: rename it")
            predictions = predict(model, validate_features(chunk))
        except ValueError as error:
            where = chunk.attrs.get("file", options["input"])
            if len(chunk):
                where = f"{where}, rows {before + 1} to {before + len(chunk)}"
            raise ValueError(f"{where}: {error}") from error
        species = predictions.pop(TARGET)
        scored = chunk.assign(**{TARGET: species})
        if likely:  # that of the species, which need not be the highest
            column = predictions.columns.get_indexer(species.astype(str))
            scored["probability"] = predictions.to_numpy()[range(len(column)), column]
        return scored

    table: Any = new_flowers
    if hasattr(table, "map_partitions"):  # Dask's, on a cluster
        more = score(pd.DataFrame(1.0, [0], FEATURES)).drop(columns=FEATURES)
        return table.map_partitions(score, meta={**table.dtypes, **more.dtypes})

    def score_all() -> Iterator[pd.DataFrame]:
        rows = 0
        for chunk in new_flowers:
            yield score(chunk, rows)
            rows += len(chunk)
        mlflow.log_metric("rows", rows, run_id=run.info.run_id)  # no longer active

    return score_all()
