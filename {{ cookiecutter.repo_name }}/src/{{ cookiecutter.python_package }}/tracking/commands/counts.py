"""How much a run holds: what is sent and what arrives are compared by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from . import record

KINDS = ("runs", "child runs", "models", "parameters", "metric values", "files")


def in_words(counts: Counter[str]) -> str:
    """Return counts in words: ``2 runs, 1 model``."""
    shown = {kind: counts[kind] for kind in KINDS if counts[kind]}
    each = (f"{n:,} {kind if n > 1 else kind[:-1]}" for kind, n in shown.items())
    return ", ".join(each) or "nothing"


def in_record(found: Any, folder: Path) -> Counter[str]:
    """Return how much a run and its child runs hold, by what is counted."""
    data, artifacts = found.run.data, folder / "artifacts"
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    counts = of_run(len(data.params), len(data.metrics), len(found.models), len(files))
    for number, child in enumerate(found.children):
        counts += as_child(in_record(child, folder / f"child{number}"))
    return counts


def in_store(run_id: str) -> Counter[str]:
    """Return how much a run and its child runs hold in the store."""
    client = MlflowClient()
    run: Any = client.get_run(run_id)
    metrics = [client.get_metric_history(run_id, name) for name in run.data.metrics]
    models, files = run.outputs.model_outputs, count_files(run_id)
    counts = of_run(len(run.data.params), sum(map(len, metrics)), len(models), files)
    for child in record.children_of(run_id, [run.info.experiment_id]):
        counts += as_child(in_store(child.info.run_id))
    return counts


def of_run(parameters: int, metrics: int, models: int, files: int) -> Counter[str]:
    """Return the counts of one run."""
    return Counter(
        dict(zip(KINDS, (1, 0, models, parameters, metrics, files), strict=True))
    )


def as_child(counts: Counter[str]) -> Counter[str]:
    """Return the counts of a run as those of a child run."""
    return Counter(counts | {"child runs": counts["child runs"] + 1, "runs": 0})


def count_files(run_id: str, folder: str = "") -> int:
    """Return how many artifacts a run has."""
    found = MlflowClient().list_artifacts(run_id, folder or None)
    return sum(count_files(run_id, f.path) if f.is_dir else 1 for f in found)
