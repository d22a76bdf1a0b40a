"""Modules in process: a rendered project, a store copied from a template, sessions."""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock
from runs import NAME, PACKAGE, REPO, ROOT, Run, recorded

STEERING = ("MLFLOW_", "KEDRO_")


@pytest.fixture(scope="session")
def generated(shared) -> Path:
    """Return a project that cookiecutter has rendered; tests must not change it."""
    from cookiecutter.main import cookiecutter

    with FileLock(shared / "rendered.lock"):
        folder = shared / "rendered"
        if not folder.exists():
            config = shared / "cookiecutter.yml"
            config.write_text(json.dumps({"replay_dir": str(shared / "replay")}))
            cookiecutter(
                str(ROOT),
                no_input=True,
                extra_context={"project_name": NAME},
                config_file=str(config),
                output_dir=str(folder),
                accept_hooks=False,
            )
    return folder / REPO


@pytest.fixture(scope="session", autouse=True)
def importable(generated) -> Iterator[None]:
    """Put the rendered project's package on the path of this process."""
    sys.path.insert(0, str(generated / "src"))
    yield
    sys.path.remove(str(generated / "src"))


@pytest.fixture(autouse=True)
def clean_process(tmp_path, monkeypatch) -> Iterator[None]:
    """Leave nothing of a test in this process: variables, active runs, directory."""
    before = {k: v for k, v in os.environ.items() if not k.startswith(STEERING)}
    before |= {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ.clear()
    os.environ.update(before)
    monkeypatch.chdir(tmp_path)
    yield
    if mlflow := sys.modules.get("mlflow"):
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def module(importable) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the project: ``tracking.store``."""

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"{PACKAGE}.{name}")

    return load


@pytest.fixture
def project(generated, empty_store, tmp_path) -> Path:
    """Return a project folder with a store; its package is the rendered project's.

    It holds what a run reads. ``src`` is empty: an edit of the package takes
    ``edited_project`` of the commands, where each command is a process of its own.
    """
    folder = tmp_path / REPO
    for name in ("conf", "data"):
        shutil.copytree(generated / name, folder / name)
    for name in ("pyproject.toml", "requirements.txt", "MLproject", "check.py"):
        shutil.copy(generated / name, folder / name)
    (folder / "src").mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def session_run(project, monkeypatch) -> Callable[..., Any]:
    """Return a function that runs a pipeline in a real Kedro session.

    The function takes a ``Pipeline`` (default: the project's own), ``env`` and
    ``runtime_params`` of the session, and what ``KedroSession.run`` takes.
    """
    from kedro.framework import project as kedro_project
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    def run(pipeline=None, *, env=None, runtime_params=None, folder=project, **options):
        bootstrap_project(folder)
        if pipeline is not None:
            kedro_project.pipelines["__default__"] = pipeline
        made = KedroSession.create(folder, env=env, runtime_params=runtime_params)
        with made as session:
            return session.run(**options)

    return run


@pytest.fixture
def runs_of(project) -> Callable[[], list[Run]]:
    """Return a function that reads all runs of the project's store, oldest first."""
    return lambda: recorded(project)
