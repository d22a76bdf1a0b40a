"""Nodes of the tuning pipeline."""

import time
from typing import Any

import joblib
import pandas as pd
from matplotlib.figure import Figure
from sklearn import model_selection
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.pipeline import Pipeline

from {{ cookiecutter.python_package }} import tracking
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET


def tune_model(
    untuned: Pipeline,
    train: pd.DataFrame,
    options: dict[str, Any],
    parallel: dict[str, Any],
) -> tuple[Pipeline, pd.DataFrame]:
    """Search for the best options of a model; log each candidate as a child run.

    Args:
        untuned: What ``train_model`` returns: its steps are those of all candidates.
        train: The flowers to learn from.
        options: ``search``, a class of ``model_selection``, and its arguments.
        parallel: Arguments of joblib's ``parallel_config``: where they are fitted.

    Returns:
        The best candidate, fitted to all flowers; the table ``cv_results_`` of the
        search, a candidate a row, times in seconds.

    Raises:
        RuntimeError: Says where the search was, and why it has failed.
    """
    began, arguments = time.time(), dict(options)
    search = getattr(model_selection, arguments.pop("search"))(untuned, **arguments)
    try:
        with joblib.parallel_config(**parallel):
            search.fit(train[FEATURES], train[TARGET])
    except Exception as error:
        where = parallel.get("scheduler_host", "this machine")
        raise RuntimeError(f"the search on {where} has failed: {error}") from error
    candidates = pd.DataFrame(search.cv_results_)
    measures = candidates.filter(regex="^(mean|std|rank)_|^(iter|n_resources)$")
    times = candidates[["mean_fit_time", "mean_score_time"]].sum(axis="columns")
    measured = measures.astype(float).to_dict("records")
    seconds = times * search.n_splits_
    rows: Any = zip(candidates["params"], measured, seconds, strict=True)
    tried = [tracking.Candidate(*row) for row in rows]
    tracking.log_search(tried, began=began, best=search.best_index_)
    return search.best_estimator_, candidates


def draw_search(candidates: pd.DataFrame) -> Figure:
    """Draw the score of each candidate over each option that was varied."""
    (score,) = candidates.filter(regex="^mean_test_").columns[:1]
    spread = candidates[score.replace("mean", "std", 1)]
    options = candidates.filter(regex="^param_")
    figure = Figure(figsize=(4.5 * len(options.columns), 4), layout="constrained")
    axes = figure.subplots(1, len(options.columns), sharey=True, squeeze=False).flat
    for ax, (name, values) in zip(axes, options.items(), strict=True):
        numbers = pd.to_numeric(values, errors="coerce")
        ordered = numbers.notna().all() and numbers.dtype != bool
        x = numbers if ordered else values.map(str)
        ax.errorbar(x, candidates[score], yerr=spread, fmt="o", alpha=0.6)
        if ordered and 0 < numbers.min() < numbers.max() / 50:
            ax.set_xscale("log")
        ax.set_xlabel(str(name).removeprefix("param_"))
    figure.axes[0].set_ylabel(score)
    return figure
