"""A search within a run: each of its candidates is a child run."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import names, parameters, recovery


class Candidate(NamedTuple):
    """What a search has tried: a child run; one without all measures has FAILED."""

    params: dict[str, Any]
    metrics: dict[str, float]
    seconds: float  # that it has taken


def log_search(candidates: Sequence[Candidate], *, began: float, best: int) -> None:
    """Log candidates below the active run, which names the best one in its tags.

    Args:
        candidates: All that were tried.
        began: When the search began, in seconds since 1970; the start of all children.
        best: The index of the best candidate.
    """
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    client, parent = mlflow.MlflowClient(), mlflow.active_run() or mlflow.start_run()
    parent_id, experiment = parent.info.run_id, parent.info.experiment_id
    tags = {k: v for k, v in parent.data.tags.items() if k.startswith("mlflow.source")}
    tags |= {"mlflow.user": parent.info.user_id, "mlflow.parentRunId": parent_id}
    tags["creation.id"] = uuid.uuid4().hex
    start = int(began * 1000)
    for number, (params, metrics, seconds) in enumerate(candidates):
        name, text = f"candidate {number}", parameters.flatten(params)
        own = {**tags, "search.candidate": str(number)}
        child = client.create_run(experiment, start, own, name).info.run_id
        end = start + int(seconds * 1000)
        client.log_batch(
            child,
            [
                Metric(names.clean_name(key), value, end, 0)
                for key, value in metrics.items()
            ],
            [Param(*item) for item in text.items()],
            synchronous=True,
        )
        complete = not any(map(math.isnan, metrics.values()))
        client.set_terminated(child, "FINISHED" if complete else "FAILED", end)
        if number == best:
            chosen = {"search.best": name}
            chosen |= {f"search.best.{key}": value for key, value in text.items()}
            scoped = [RunTag(names.with_namespace(k), v) for k, v in chosen.items()]
            client.log_batch(parent_id, tags=scoped, synchronous=True)
    # Made twice, because an answer was lost.
    recovery.end_runs(experiment, f"tags.`creation.id` = '{tags['creation.id']}'")
