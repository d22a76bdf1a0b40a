"""A deployed model is watched: its inputs, its answers, and what they are worth."""

import json
import logging
import math
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from . import drift, models, names, parameters, provenance, redact, registry
from .column_counts import Counters, category_shares
from .comparison import SIGNS

logger = logging.getLogger(__name__)


@dataclass
class QualityOptions:
    """When a model has become worse, and what happens then.

    Args:
        metric: The key of the metrics that decides.
        better: Whether ``more`` of it is better, or ``less``.
        margin: The model is worse if it has lost more than this.
        min_rows: Fewer rows get no verdict.
        on_worse: ``warn``, or ``fail``: the run has failed.
    """

    metric: str
    better: str = "more"
    margin: float = 0.05
    min_rows: int = 50
    on_worse: str = "warn"

    def check(self) -> None:
        """Refuse values that mean nothing, before anything is computed."""
        option = "monitor_options"
        parameters.require_word(f"{option}.better", self.better, *SIGNS)
        parameters.require_word(f"{option}.on_worse", self.on_worse, "warn", "fail")
        parameters.require_number(f"{option}.margin", self.margin, 0)
        parameters.require_number(f"{option}.min_rows", self.min_rows, 0)


@dataclass
class Watch:
    """A model in use: what it was trained on, and what has been counted since.

    Attributes:
        uri: The model's address, as it was asked for.
        model_id: MLflow's id of the logged model, if the tracking store has it.
        record: ``features`` and ``predictions``, by column, as ``describe`` returns
            them; ``mean_probability``; ``metrics``. Empty if it is not known.
        counters: What the model has met and answered.
    """

    uri: str
    model_id: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    counters: Counters | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watch":
        """Stay the same object when Kedro hands it on: it may still be filled."""
        return self

    def columns(self) -> dict[str, dict[str, Any]]:
        """Return the columns that ``Counters`` count: features and answers."""
        features, answers = (self.record.get(k) for k in ("features", "predictions"))
        return {**(features or {}), **(answers or {})}


def load_watched_model(uri: str) -> tuple[Any, Watch]:
    """Load a model as ``load_model`` does, with the record of its training."""
    loaded = models.load_logged_model(uri)
    kept = loaded.metadata.metadata or {}
    record = json.loads(kept.get(models.TRAINING_RECORD_KEY, "{}"))
    return loaded.get_raw_model(), Watch(uri, loaded.metadata.model_id, record)


def report_drift(watch: Watch, options: drift.DriftOptions) -> dict[str, Any]:
    """Compare what a model has met with its training; log metrics and the verdict.

    The metrics carry the id of the model. The verdict is a tag of the active run and of
    the model's versions, and a line in the log.

    Returns:
        What ``drift.compare`` returns, and the ``metrics``.
    """
    if not watch.record or watch.counters is None:
        no_record = "the model has no training record"
        why = "nothing was counted" if watch.record else no_record
        found: dict[str, Any] = {"verdict": f"not measured: {why}", "drifted": []}
        found |= {"columns": {}, "enough_rows": False, "metrics": {}}
    else:
        found = drift.compare(watch.counters, options)
        found["metrics"] = drift_metrics(found, watch)
        parameters.log_metrics(found["metrics"], watch.model_id)
        if found["not_found"]:
            missing = ", ".join(found["not_found"])
            logger.info("Not compared, for they are not there any more: %s.", missing)
    level = logging.WARNING if found["drifted"] else logging.INFO
    logger.log(level, "Drift since the training of %s: %s", watch.uri, found["verdict"])
    set_verdict("drift", found["verdict"], watch)
    return found


def drift_metrics(found: dict[str, Any], watch: Watch) -> dict[str, float]:
    """Return the metrics of a comparison, and of the model's answers."""
    counters: Any = watch.counters
    metrics = {"mean_probability": counters.mean_probability()}
    for name, column in found["columns"].items():
        for key in ("ks", "chi2", "psi"):
            metrics[f"drift.{name}.{key}"] = column.get(key)
        for key in ("missing", "outside"):
            metrics[f"{key}.{name}"] = column.get(key)
    for name in watch.record.get("predictions") or {}:
        shares = category_shares(found["columns"].get(name, {}))
        metrics |= {f"share.{label}": share for label, share in shares.items()}
    return {key: value for key, value in metrics.items() if value is not None}


def report_quality(
    watch: Watch, metrics: dict[str, float], rows: int, options: QualityOptions
) -> dict[str, Any]:
    """Compare a model's metrics with those of its training; log them and the verdict.

    Args:
        watch: The model.
        metrics: What was measured of it on rows whose true answers are known by now.
        rows: How many rows these are.
        options: When the model is worse.

    Returns:
        ``verdict`` in words, whether the model is ``worse``, ``metrics``, ``rows``, and
        the metrics when it was ``trained``.
    """
    metric, trained = options.metric, watch.record.get("metrics") or {}
    now, then, worse = metrics.get(metric), trained.get(metric), False
    if now is None or math.isnan(now):
        verdict = f"{metric} was not measured"
    elif then is None:
        verdict = f"{metric} {now:.4g}, not known when it was trained"
    else:
        worse = SIGNS[options.better] * (then - now) > options.margin
        judged = f"{'worse' if worse else 'not worse'} by more than {options.margin:g}"
        verdict = f"{metric} {now:.4g}, {then:.4g} when it was trained: {judged}"
    if rows < options.min_rows:
        verdict, worse = f"too few rows ({rows}): {verdict}", False
    measured = {f"monitor.{key}": value for key, value in metrics.items()}
    parameters.log_metrics(measured | {"monitor.rows": rows}, watch.model_id)
    level = logging.WARNING if worse else logging.INFO
    logger.log(level, "%s on %s rows: %s", watch.uri, rows, verdict)
    set_verdict("monitor", verdict, watch)
    found = {"verdict": verdict, "worse": worse, "rows": rows}
    return found | {"metrics": metrics, "trained": trained}


def set_verdict(subject: str, verdict: str, watch: Watch) -> None:
    """Set a verdict as a tag of the active run and of the model's versions."""
    key, verdict = f"{subject}.verdict", verdict[: names.MAX_TAG]
    mlflow.set_tag(names.with_namespace(key), verdict)
    if not watch.model_id or provenance.replay_tags():
        return
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    tags = {key: verdict, f"{subject}.run_id": run.info.run_id}  # type: ignore
    try:
        model = client.get_logged_model(watch.model_id)
        for version in registry.versions_in_tag(model):
            name, number = version["name"], version["version"]
            for tag, text in tags.items():
                client.set_model_version_tag(name, number, tag, text)
    except MlflowException as error:  # another store's, or not ours to change
        why = redact.first_line(error)
        logger.info("The model's version has no tag %s: %s", key, why)
