"""Nodes of the scoring pipeline, and what they record about the model in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import lazy_loader as lazy

from ...registry import find_model
from ...schema import FEATURES, TARGET, validate_measures

# Loaded when a node runs: commands that only list pipelines do not wait for them.
mlflow = lazy.load("mlflow")
pd = lazy.load("pandas")
sklearn = lazy.load("sklearn")


def score_flowers(
    new_flowers: Iterable[pd.DataFrame], model: str | int, name: str
) -> Iterator[pd.DataFrame]:
    """Predict the species of flowers with a registered model, chunk by chunk.

    The MLflow run names the model as its input, and in its tags.

    Args:
        new_flowers: Chunks of a table with the measures in cm, a flower a row.
        model: An alias or a version number of the registered model, or a run's id.
        name: The registered model's name.

    Returns:
        The chunks, with the predicted species and its probability in two more columns.

    Raises:
        ClickException: There is no such model.
    """
    uri, tags = find_model(name, str(model))
    mlflow.set_tags(tags)
    run_id = mlflow.active_run().info.run_id
    used = mlflow.entities.LoggedModelInput(tags["model.id"])
    mlflow.MlflowClient().log_inputs(run_id, models=[used])
    return score_chunks(new_flowers, mlflow.sklearn.load_model(uri), run_id)


def score_chunks(
    chunks: Iterable[pd.DataFrame], model: sklearn.pipeline.Pipeline, run_id: str
) -> Iterator[pd.DataFrame]:
    """Predict chunk by chunk, and record how many flowers there were.

    Args:
        chunks: Tables with the measures in cm, a flower a row.
        model: The fitted pipeline.
        run_id: The MLflow run, which is no longer active when the chunks are read.

    Yields:
        Each chunk with the predicted species and its probability.

    Raises:
        ValueError: Names the column at fault, and its rows, or that there are none.
    """
    rows = 0
    for chunk in chunks:
        try:
            measures = validate_measures(chunk)[FEATURES]
        except ValueError as error:
            last = rows + len(chunk)
            raise ValueError(f"rows {rows + 1} to {last}: {error}") from error
        probabilities = model.predict_proba(measures)
        species = model.classes_[probabilities.argmax(axis=1)]
        rows += len(chunk)
        yield chunk.assign(
            **{TARGET: species, "probability": probabilities.max(axis=1)}
        )
    if not rows:
        raise ValueError("the table has no rows")
    mlflow.MlflowClient().log_metric(run_id, "rows", rows)
