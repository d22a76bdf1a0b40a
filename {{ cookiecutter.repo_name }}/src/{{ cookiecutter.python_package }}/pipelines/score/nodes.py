"""Nodes of the scoring pipeline."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlflow
import pandas as pd

from {{ cookiecutter.python_package }} import schema, tracking
from {{ cookiecutter.python_package }}.pipelines import data_science
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET

logger = logging.getLogger(__name__)


@dataclass
class ScoreOptions:
    """What is scored, and by which model: ``score_options``.

    Args:
        model: MLflow's address of the model.
        input: The file, or the folder, that the catalog reads instead of its own.
    """

    model: str
    input: str | None = None


def score_flowers(new_flowers: Any, options: ScoreOptions) -> Any:
    """Predict the species of flowers with a logged model, which the run names.

    Args:
        new_flowers: A table in chunks, or a folder of files on a cluster: the measures
            in cm, a flower a row.
        options: Which model predicts.

    Returns:
        The same rows with the columns of ``predict_species``, which are computed while
        the rows are saved.

    Raises:
        ClickException: There is no such model.
        ValueError: A chunk was refused; names the file, the rows and the columns.
    """
    model = tracking.load_model(options.model)
    run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id  # in notebooks too
    if not hasattr(model, "predict_proba"):
        logger.info("The model has no probabilities: their column is left out.")

    def report(rows: int) -> None:
        mlflow.log_metric("rows", rows, run_id=run_id)  # not active any more

    return new_flowers.with_columns(partial(predict_species, model), FEATURES, report)


def predict_species(model: Any, flowers: pd.DataFrame) -> pd.DataFrame:
    """Return the species and, if the model has probabilities, how probable it is."""
    predictions = data_science.predict(model, schema.validate_features(flowers))
    answers = predictions[[TARGET]]
    probabilities = predictions.drop(columns=TARGET)
    if probabilities.empty:
        return answers
    # That of the species, which need not be the highest.
    names = pd.Index(data_science.label_names(answers[TARGET]))
    column = probabilities.columns.get_indexer(names)
    own = probabilities.to_numpy()[range(len(column)), column]
    return answers.assign(probability=own)
