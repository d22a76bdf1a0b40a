"""A copy of the project that tests may run and spoil, and a store for their runs."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from {{ cookiecutter.python_package }}.schema import (
    validate_iris,
)

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
def parameters():
    """Return the options of conf/base/parameters.yml."""
    return yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())


@pytest.fixture(scope="session")
def raw():
    """Return the raw data, and where they are in the project."""
    entry = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())["iris"]
    return pd.read_csv(PROJECT / entry["filepath"]), entry["filepath"]


@pytest.fixture(scope="session")
def iris(raw):
    """Return the raw data as the pipeline reads them."""
    return validate_iris(raw[0])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a copy of what a run reads; its runs have an experiment of their own."""
    for folder in ("conf/base", "data/01_raw"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    (tmp_path / "conf/local").mkdir()
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
