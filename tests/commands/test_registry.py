"""Trainings as whole commands, and which of their models is the champion."""

import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, REPO, path_of


@pytest.fixture
def project(trained, tmp_path) -> Path:
    """Return a project in which one model has been trained."""
    return shutil.copytree(trained, tmp_path / REPO)


def client(project: Path) -> MlflowClient:
    uri = f"sqlite:///{project}/mlflow.db"
    return MlflowClient(uri, uri)


def versions(store: MlflowClient) -> list:
    """Return the versions, oldest first."""
    found = store.search_model_versions(f"name = '{PACKAGE}'")
    return sorted(found, key=lambda version: int(version.version))


def aliases(store: MlflowClient) -> dict[str, int]:
    found = store.get_registered_model(PACKAGE).aliases
    return {alias: int(version) for alias, version in found.items()}


def last_run(store: MlflowClient):
    (experiment,) = store.search_experiments(filter_string=f"name = '{PACKAGE}'")
    return store.search_runs([experiment.experiment_id])[0]


def test_kedro_run_registers_in_worker_processes(project, kedro):
    kedro("run", "--runner=ParallelRunner")
    assert aliases(client(project)) == {"champion": 2}


def test_mlflow_run_registers(project, fork, bin_):
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    env["PATH"] = path_of(bin_)
    words = ("run", ".", "--env-manager=local", f"--experiment-name={PACKAGE}")
    fork.run(bin_ / "mlflow", *words, cwd=project, **env)
    assert aliases(client(project)) == {"champion": 2}
    assert versions(client(project))[1].run_id == last_run(client(project)).info.run_id


def test_a_registry_that_does_not_answer_fails_the_last_node(project, kedro):
    env = {"MLFLOW_REGISTRY_URI": "http://127.0.0.1:9", "COLUMNS": "300"}
    started = time.monotonic()
    failed = kedro("run", ok=False, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", **env)
    assert time.monotonic() - started < 60
    assert failed.returncode == 1
    assert "127.0.0.1" in failed.stderr.splitlines()[-1]
    store = client(project)
    assert aliases(store) == {"champion": 1}
    made = last_run(store)
    assert made.info.status == "FAILED"
    assert made.data.tags["failure.node"] == "promote_model"
    assert made.data.metrics["accuracy"] >= 0.9
    kedro("run", "--from-nodes=promote_model")
    assert aliases(store) == {"champion": 2}
    assert versions(store)[1].run_id == made.info.run_id
