"""A copy of the project that tests may run and spoil, and a store for their runs."""

import os
import shutil
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory):
    """Record runs in a temporary store, wherever the shell or mlflow.yml points."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store').as_posix()}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("MLFLOW_", "KEDRO_")):
                patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("DO_NOT_TRACK", "1")
        yield uri


@pytest.fixture(scope="session")
def context(store):
    """Return the project's configuration, as a run reads it."""
    bootstrap_project(PROJECT)
    return KedroSession.create(PROJECT).load_context()


@pytest.fixture(scope="session")
def parameters(context):
    """Return the options of parameters.yml."""
    return context.config_loader["parameters"]


@pytest.fixture(scope="session")
def iris(context):
    """Return the raw data, from wherever the catalog says."""
    return context.catalog.load("iris")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a copy of what a run reads; its runs have an experiment of their own."""
    for folder in ("conf", "data/01_raw"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", str(tmp_path))
    bootstrap_project(PROJECT)
    return tmp_path


@pytest.fixture
def kedro_run(project):
    """Return a function that runs the default pipeline in the copy."""

    def run(**runtime_params):
        with KedroSession.create(project, runtime_params=runtime_params) as session:
            return session.run()

    return run
