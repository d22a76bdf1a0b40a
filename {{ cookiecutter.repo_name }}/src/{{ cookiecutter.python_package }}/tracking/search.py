"""A search within a run: each of its candidates is a child run."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from . import names, parameters, recovery


class Candidate(NamedTuple):
    """One candidate of a search; if a metric is nan, its run is FAILED."""

    params: dict[str, Any]
    metrics: dict[str, float]
    seconds: float  # that it has taken


def log_search(candidates: Sequence[Candidate], *, began: float, best: int) -> None:
    """Log each candidate as a child run, and the best one in the parent's tags.

    Args:
        candidates: All that were tried.
        began: When the search began, in seconds since 1970; the start of all children.
        best: The index of the best candidate.
    """
    client, parent = MlflowClient(), mlflow.active_run() or mlflow.start_run()
    start, inherited = int(began * 1000), parent.data.tags.items()
    source = {k: v for k, v in inherited if k.startswith("mlflow.source")}
    source["mlflow.user"] = parent.info.user_id
    with recovery.creating_child_runs(parent) as tags:
        for number, candidate in enumerate(candidates):
            own = source | tags | {"search.candidate": str(number)}
            log_candidate(parent.info.experiment_id, number, candidate, start, own)
    chosen = parameters.flatten({"search.best": candidates[best].params})
    chosen["search.best"] = f"candidate {best}"
    tags_of_best = [RunTag(names.with_namespace(k), v) for k, v in chosen.items()]
    client.log_batch(parent.info.run_id, tags=tags_of_best, synchronous=True)


def log_candidate(
    experiment: str, number: int, candidate: Candidate, start: int, tags: dict[str, str]
) -> None:
    """Log one candidate as a run that has ended."""
    client, end = MlflowClient(), start + int(candidate.seconds * 1000)
    run = client.create_run(experiment, start, tags, f"candidate {number}")
    measured = candidate.metrics.items()
    metrics = [Metric(names.clean_name(k), value, end, 0) for k, value in measured]
    params = [Param(*item) for item in parameters.flatten(candidate.params).items()]
    client.log_batch(run.info.run_id, metrics, params, synchronous=True)
    complete = not any(map(math.isnan, candidate.metrics.values()))
    client.set_terminated(run.info.run_id, "FINISHED" if complete else "FAILED", end)
