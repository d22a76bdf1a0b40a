"""Nodes of the scoring pipeline."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from click import ClickException

from {{ cookiecutter.python_package }} import schema, tracking
from {{ cookiecutter.python_package }}.pipelines import data_science
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET

# By name: the workers of a cluster, which lack the project, get these functions alone.
predict, label_names = data_science.predict, data_science.label_names

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


def score_flowers(new_flowers: Any, options: ScoreOptions) -> tuple[Any, Any]:
    """Predict the species of flowers with a logged model, which the run names.

    Args:
        new_flowers: A table in chunks, or a folder of files on a cluster: the measures
            in cm, a flower a row.
        options: Which model predicts.

    Returns:
        The same rows with the columns of ``predict_species``, which are computed while
        the rows are saved; the ``tracking.Watch`` that then knows what was counted.

    Raises:
        ClickException: There is no such model.
        ValueError: A chunk was refused; names the file, the rows and the columns.
    """
    model, watch = tracking.load_watched_model(options.model)
    run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id  # in notebooks too
    if not hasattr(model, "predict_proba"):
        logger.info("The model has no probabilities: their column is left out.")

    def report(rows: int, counters: Any) -> None:
        mlflow.log_metric("rows", rows, run_id=run_id)  # not active any more
        watch.counters = counters

    answer = partial(predict_species, model)
    count = partial(tracking.Counters, watch.columns())
    return new_flowers.with_columns(answer, FEATURES, report, count), watch


def predict_species(
    model: Any, flowers: pd.DataFrame, counters: tracking.Counters | None = None
) -> pd.DataFrame:
    """Return the species and, if the model has its probability, how probable it is.

    Args:
        model: The model that predicts.
        flowers: A flower a row, with the columns ``FEATURES``.
        counters: Count the flowers and the answers.
    """
    flowers = schema.validate_features(flowers)
    predictions = predict(model, flowers)
    answers = predictions[[TARGET]]
    probabilities = predictions.drop(columns=TARGET)
    if counters:
        counters.update(flowers[FEATURES])
        counters.update(answers)
    if probabilities.empty:
        return answers
    if counters:
        counters.add_probabilities(probabilities.to_numpy().max(axis=1))
    codes, species = answers[TARGET].factorize()
    names = pd.Index(label_names(pd.Series(species)))
    columns = probabilities.columns.get_indexer(names)
    # The probability of the species, which need not be the highest.
    places = columns[codes]
    own = probabilities.to_numpy()[np.arange(len(codes)), places]
    return answers.assign(probability=np.where(places < 0, np.nan, own))


def check_drift(
    watch: tracking.Watch, options: tracking.DriftOptions
) -> dict[str, Any]:
    """Compare what was scored with the model's training, and log what has drifted.

    Args:
        watch: What was counted.
        options: When a column has drifted.

    Returns:
        The verdict, and the measures of each column, the worst first.
    """
    return tracking.report_drift(watch, options)


def refuse_drift(drift: dict[str, Any], options: tracking.DriftOptions) -> None:
    """Let the run fail if columns have drifted and ``on_drift`` is ``fail``.

    Raises:
        ClickException: Names the columns. All outputs are saved by then.
    """
    if drift["drifted"] and options.on_drift == "fail":
        raise ClickException(
            f"Drift since the training: {drift['verdict']} -- the flowers are scored; "
            "see drift.png and drift.json of the run"
        )
