"""How much a run holds: what is sent and what arrives are compared by it."""

from collections import Counter
from typing import Any

from mlflow import MlflowClient

from . import project_runs


def in_words(counts: Counter[str]) -> str:
    """Return counts in words: ``2 runs, 1 model``."""
    each = (f"{n:,} {kind if n > 1 else kind[:-1]}" for kind, n in counts.items() if n)
    return ", ".join(each) or "nothing"


def in_records(records: list[Any]) -> Counter[str]:
    """Return how much the records of runs and of their child runs hold."""
    each = [one for parent in records for one in parent.family()]
    files = (path for one in each for path in (one.folder / "artifacts").rglob("*"))
    return Counter(
        {
            "runs": len(records),
            "child runs": len(each) - len(records),
            "models": sum(len(one.models) for one in each),
            "parameters": sum(len(one.run.data.params) for one in each),
            "metric values": sum(len(one.run.data.metrics) for one in each),
            "files": sum(path.is_file() for path in files),
        }
    )


def in_store(run_id: str) -> Counter[str]:
    """Return how much a run and its child runs hold in the store."""
    counts: Counter[str] = Counter({"runs": 1, "child runs": -1})
    client: Any = MlflowClient()
    for run in project_runs.family_of(client.get_run(run_id)):
        run_id, data = run.info.run_id, run.data
        histories = [client.get_metric_history(run_id, name) for name in data.metrics]
        counts["child runs"] += 1
        counts["models"] += len(run.outputs.model_outputs)
        counts["parameters"] += len(data.params)
        counts["metric values"] += sum(map(len, histories))
        counts["files"] += count_files(run_id)
    return counts


def count_files(run_id: str, folder: str = "") -> int:
    """Return how many artifacts a run has."""
    found = MlflowClient().list_artifacts(run_id, folder or None)
    return sum(count_files(run_id, f.path) if f.is_dir else 1 for f in found)
