"""What trainings at once must record: each the numbers and the model of its own C."""

import re
from collections.abc import Iterable
from pathlib import Path

import mlflow
from harness import Forked, ForkServer
from runs import METRICS, Run, path_of, recorded

Metrics = dict[str, dict[str, float]]


def train_alone(
    values: Iterable[str], project: Path, fork: ForkServer, bin_: Path
) -> Metrics:
    """Return the metrics of a lone training for each value of C.

    Args:
        values: C, as one types it.
        project: Where the trainings run, one after the other.
        fork: Runs the commands.
        bin_: The environment.
    """
    for value in values:
        words = (bin_ / "kedro", "run", f"--params=model_options.C={value}")
        fork.run(*words, cwd=project, PATH=path_of(bin_))
    return {one.params["model_options.C"]: one.metrics for one in recorded(project)}


def start_all(
    fork: ForkServer, bin_: Path, project: Path, lists: Iterable[Iterable[str]]
) -> list[Forked]:
    """Start ``kedro`` in a project once for each list of options."""
    env = {"PATH": path_of(bin_), "COLUMNS": "300"}
    return [fork.start(bin_ / "kedro", *o, cwd=project, **env) for o in lists]


def model_parameter(project: Path, one: Run) -> float:
    """Return C of the model that a run has logged, as the model itself says."""
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    output = {m.model_id for m in client.get_run(one.id).outputs.model_outputs}
    (uri,) = (
        f"models:/{m}" for m in output if client.get_logged_model(m).name == "model"
    )
    return mlflow.sklearn.load_model(uri)[-1].C


def check_own(project: Path, runs: list[Run], alone: Metrics) -> None:
    """Each run's metrics and model are those of its own parameters."""
    assert [one.status for one in runs] == ["FINISHED"] * len(runs)
    for one in runs:
        c = one.params["model_options.C"]
        assert {name: one.metrics[name] for name in METRICS} == alone[c]
        assert model_parameter(project, one) == float(c)


def check_waits(started: list[Forked]) -> None:
    """All but one have waited, and have said for whom and since when."""
    said = [one.completed().stdout for one in started]
    waited = [text for text in said if "Waiting: " in text]
    assert len(waited) == len(started) - 1
    assert all(re.search("is in use by .*run.*, since [0-9:]{8}", t) for t in waited)
