"""Nodes of the monitoring pipeline."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from click import ClickException

from {{ cookiecutter.python_package }} import schema, tracking
from {{ cookiecutter.python_package }}.pipelines import data_science
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET

PREDICTED = "predicted "  # before the names of what is predicted


@dataclass(kw_only=True)
class MonitorOptions(tracking.QualityOptions):
    """Which model is measured again, and when it is worse: ``monitor_options``.

    Args:
        model: MLflow's address of the model.
        input: The file that the catalog reads instead of its own.
        id: The column by which labels are joined to scored rows.
    """

    model: str
    input: str | None = None
    id: str | None = None


def predict_again(
    labelled_flowers: Any, options: MonitorOptions
) -> tuple[pd.DataFrame, pd.DataFrame, tracking.Watch]:
    """Predict the species of flowers whose true species are known by now.

    Args:
        labelled_flowers: A table in chunks: the measures in cm and the species, a
            flower a row. Rows without a species are left out.
        options: Which model predicts.

    Returns:
        The true species; what ``predict`` returns for them; the model's ``Watch``.

    Raises:
        ClickException: There is no such model, or no flower has a species.
        ValueError: A chunk was refused; names the file, the rows and the columns.
    """
    model, watch = tracking.load_watched_model(options.model)
    predict = partial(predict_labelled, model)
    parts = []
    for table in labelled_flowers.with_columns(predict, [*FEATURES, TARGET]):
        names = [name for name in table.column_names if name.startswith(PREDICTED)]
        parts.append(table.select([TARGET, *names]).to_pandas())
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows[TARGET].notna() & (rows[TARGET].map(str) != "")]
    if rows.empty:
        raise ClickException(f"{labelled_flowers.path}: no row has a {TARGET}.")
    predictions = rows.drop(columns=TARGET)
    predictions.columns = predictions.columns.str.removeprefix(PREDICTED)
    truth = rows[[TARGET]]
    if pd.api.types.is_numeric_dtype(predictions[TARGET]):  # a CSV file has texts
        truth = truth.apply(pd.to_numeric)
    return truth, predictions, watch


def predict_labelled(model: Any, flowers: pd.DataFrame) -> pd.DataFrame:
    """Return what ``predict`` returns, with names that the table has not yet."""
    schema.require([*FEATURES, TARGET], flowers)
    valid = schema.validate_features(flowers[FEATURES])
    return data_science.predict(model, valid).add_prefix(PREDICTED)


def check_quality(
    truth: pd.DataFrame,
    predictions: pd.DataFrame,
    watch: tracking.Watch,
    options: MonitorOptions,
) -> dict[str, Any]:
    """Measure the predictions as in training, and compare: is the model worse?

    Returns:
        The verdict in words, and the metrics now and then.
    """
    metrics = data_science.measure(truth, predictions)
    return tracking.report_quality(watch, metrics, len(truth), options)


def refuse_worse(quality: dict[str, Any], options: MonitorOptions) -> None:
    """Let the run fail if the model is worse and ``on_worse`` is ``fail``.

    Raises:
        ClickException: Says what was measured. All outputs are saved by then.
    """
    if quality["worse"] and options.on_worse == "fail":
        raise ClickException(f"{options.model}: {quality['verdict']}")
