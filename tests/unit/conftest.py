"""Modules in process: a rendered project, a store copied from a template, sessions."""

import functools
import gc
import importlib
import json
import logging
import os
import pkgutil
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import scipy.special  # noqa: F401  (skops is slow to import if this comes after MLflow)
from filelock import FileLock
from local_server import LocalServer
from runs import AUTHOR, NAME, PACKAGE, REPO, ROOT, Run, made_once, recorded
from runs import run as run_command

STEERING = ("MLFLOW_", "KEDRO_")
MEMORY = Path("/dev/shm")  # a file system in memory, where temporary files cost less

# Most objects live until the end; the search for garbage among them costs a tenth.
gc.set_threshold(20_000, 50, 100)

if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_finish() -> None:
    """Leave what was imported for the tests out of the search."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Leave the process without searching once more."""
    gc.freeze()


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
    sys.dont_write_bytecode = True  # the rendered project stays as it is
    sys.path.insert(0, str(generated / "src"))
    yield
    sys.path.remove(str(generated / "src"))


@pytest.fixture(scope="session")
def empty_store(empty_store) -> Path:
    """Return an empty store. What depends on MLflow only is done once, not for each."""
    from mlflow.store.db import utils

    utils._get_latest_schema_revision = functools.cache(
        utils._get_latest_schema_revision
    )
    utils.create_sqlalchemy_engine = one_dialect(utils.create_sqlalchemy_engine)
    return empty_store


def one_dialect(create: Callable[..., Any]) -> Callable[..., Any]:
    """Let the engines of all SQLite files share the SQL that SQLAlchemy has compiled.

    It keeps that SQL for each engine and dialect; a tenth of the time is spent on it.
    """
    first: list[Any] = []

    def engine(*given: Any) -> Any:
        made = create(*given)
        if made.dialect.name == "sqlite":
            first[:] = first or [made]
            made.dialect = first[0].dialect
            made._compiled_cache = first[0]._compiled_cache
        return made

    return engine


@pytest.fixture(scope="session", autouse=True)
def installed_files() -> None:
    """Read what is said about each installed package once, not for each session."""
    import importlib_metadata  # it serves the standard library's module, too

    read = importlib_metadata.PathDistribution.read_text

    @functools.cache
    def read_once(folder: Path, name: str) -> str | None:
        return read(importlib_metadata.PathDistribution(folder), name)

    def read_text(self, name: str) -> str | None:
        installed = str(self._path).startswith(sys.prefix)
        return read_once(self._path, name) if installed else read(self, name)

    importlib_metadata.PathDistribution.read_text = read_text


def end_active_runs() -> None:
    """Take what a test has left active off MLflow's stack."""
    import mlflow

    while mlflow.active_run():
        mlflow.end_run()


@contextmanager
def restored_process() -> Iterator[None]:
    """Leave nothing in this process: variables, active runs, addresses, handlers."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    silent = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    silent["PYTHONDONTWRITEBYTECODE"] = "1"  # the rendered project stays as it is
    before = os.environ | silent
    for name in [name for name in before if name.startswith(STEERING)]:
        os.environ.pop(name, None)
    os.environ.update(silent)
    warned = logging.getLogger("py.warnings").level
    yield
    logging.getLogger("py.warnings").setLevel(warned)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if mlflow := sys.modules.get("mlflow"):
        end_active_runs()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
        # By the ids of runs and models, which are the same in copies of a store.
        mlflow.tracking._tracking_service.utils._artifact_repos_cache.clear()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def clean_process(tmp_path, monkeypatch) -> Iterator[None]:
    """Leave nothing of a test in this process; run it in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with restored_process():
        yield


@pytest.fixture
def module(importable) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the project: ``schema``."""

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"{PACKAGE}.{name}")

    return load


@pytest.fixture(scope="session")
def tracking_package(importable) -> ModuleType:
    """Return the project's package ``tracking`` with all its modules imported."""
    package = importlib.import_module(f"{PACKAGE}.tracking")
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)
    return package


@pytest.fixture
def tracking(tracking_package) -> ModuleType:
    """Return ``tracking_package``; test files override this to prepare it."""
    return tracking_package


@pytest.fixture
def client(tracking_package, project):
    """Return a client of the project's own SQLite store."""
    from mlflow import MlflowClient

    tracking_package.config.configure({}, project)
    return MlflowClient()


@pytest.fixture
def on_server(tracking_package, server, project):
    """Return a client of the server."""
    from mlflow import MlflowClient

    os.environ["MLFLOW_TRACKING_URI"] = server.url
    tracking_package.config.configure({}, project)
    return MlflowClient()


@pytest.fixture
def active_run(project):
    """Return an MLflow run of the project's store, which is active."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    with mlflow.start_run() as run:
        yield run


def make_project(generated: Path, empty_store: Path, folder: Path) -> Path:
    """Lay out what a run reads: settings, data, a store; ``src`` is empty."""
    for name in ("conf", "data"):
        shutil.copytree(generated / name, folder / name)
    for name in ("pyproject.toml", "requirements.txt", "MLproject", "check.py"):
        shutil.copy(generated / name, folder / name)
    (folder / "src").mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def run_session(
    folder: Path, pipeline=None, *, env=None, runtime_params=None, **options
) -> Any:
    """Run a pipeline, by default the project's own, in a real Kedro session."""
    from kedro.framework import project as kedro_project
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    if kedro_project.PACKAGE_NAME == PACKAGE:  # loading the settings again takes time
        kedro_project.pipelines.configure(f"{PACKAGE}.pipeline_registry")
    else:
        bootstrap_project(folder)
    if pipeline is not None:
        kedro_project.pipelines["__default__"] = pipeline
    made = KedroSession.create(folder, env=env, runtime_params=runtime_params)
    with made as session:
        return session.run(**options)


@pytest.fixture
def project(generated, empty_store, tmp_path) -> Path:
    """Return a project folder with a store; its package is the rendered project's.

    It holds what a run reads. ``src`` is empty: an edit of the package takes
    ``edited_project`` of the commands, where each command is a process of its own.
    """
    return make_project(generated, empty_store, tmp_path / REPO)


@pytest.fixture
def session_run(project) -> Callable[..., Any]:
    """Return a function that runs a pipeline in a real Kedro session.

    The function takes a ``Pipeline`` (default: the project's own), ``env`` and
    ``runtime_params`` of the session, and what ``KedroSession.run`` takes.
    """

    def run(pipeline=None, *, folder=project, **options):
        return run_session(folder, pipeline, **options)

    return run


@pytest.fixture(scope="session")
def trained(shared, generated, empty_store) -> Path:
    """Return a project in git in which one run has trained; tests must not change it.

    Its ``mlflow.db`` holds that run, and the champion that it has registered.
    """
    folder = shared / "trained" / REPO
    with made_once(folder) as missing:
        if missing:
            make_project(generated, empty_store, folder)
            shutil.copy(generated / ".gitignore", folder)
            for words in (
                ("init", "--quiet", "--initial-branch=main"),
                ("add", "--all"),
                ("commit", "--quiet", "--message=first"),
            ):
                run_command("git", *AUTHOR, *words, cwd=folder)
            with restored_process():
                run_session(folder)
    return folder


@pytest.fixture(scope="session")
def copy_store(tracking_package) -> Callable[[Path, Path], Path]:
    """Return a function that copies a project, and the paths in its store with it."""

    def copy(template: Path, folder: Path) -> Path:
        shutil.copytree(template, folder, symlinks=True)
        tracking_package.database.relocate_artifacts(folder / "mlflow.db", folder)
        return folder

    return copy


@pytest.fixture
def open_copy(copy_store, tmp_path) -> Callable[[Path, str], Path]:
    """Return a function that copies a project, and leads MLflow to the copy's store."""

    def copy(template: Path, name: str) -> Path:
        folder = copy_store(template, tmp_path / name / REPO)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        return folder

    return copy


@pytest.fixture
def trained_project(trained, open_copy) -> Path:
    """Return a copy of ``trained``; MLflow is led to its store."""
    return open_copy(trained, "trained")


FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
# What a model learns from, and the C of its estimator.
MODELS = {
    "weak": (FEATURES, 1e-4),
    "strong": (FEATURES, 10),
    "narrow": (FEATURES[:2], 1),
}


@pytest.fixture(scope="session")
def models_template(trained, copy_store, shared) -> Path:
    """Return a copy of ``trained`` with three more models; tests must not change it.

    The champion is version 1, of the training. ``weak`` hardly learns, ``strong`` is
    surer than the champion, and ``narrow`` knows two columns only. ``models.json`` has
    their URIs.
    """
    import mlflow
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = shared / "with_models" / REPO
    with FileLock(shared / "with_models.lock"):
        if (folder / "models.json").exists():
            return folder
        copy_store(trained, folder)
        train = pd.read_parquet(folder / "data" / "02_intermediate" / "train.parquet")
        options = {"serialization_format": "skops", "pip_requirements": []}
        uris = {}
        with restored_process():
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            os.environ["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
            for name, (columns, strength) in MODELS.items():
                model = make_pipeline(StandardScaler(), LogisticRegression(C=strength))
                model.fit(train[columns], train["species"])
                with mlflow.start_run():
                    logged = mlflow.sklearn.log_model(model, name="model", **options)
                uris[name] = logged.model_uri
        (folder / "models.json").write_text(json.dumps(uris))
    return folder


@pytest.fixture
def uris(models_template) -> dict[str, str]:
    """Return the URIs of the three models."""
    return json.loads((models_template / "models.json").read_text())


@pytest.fixture
def project_with_models(models_template, open_copy) -> Path:
    """Return a copy of ``models_template``; MLflow is led to its store."""
    folder = open_copy(models_template, "with_models")
    os.environ["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
    return folder


@pytest.fixture
def compared(tracking_package) -> Callable[..., dict[str, Any]]:
    """Return a function that compares a table with a training table."""
    counts, drift = tracking_package.column_counts, tracking_package.drift

    def compare(train, new, **options):
        record = json.loads(json.dumps(counts.describe(train)))  # as a run keeps it
        counters = counts.Counters(record)
        counters.update(new)
        found = drift.compare(counters, drift.DriftOptions(**options))
        return json.loads(json.dumps(found))

    return compare


@pytest.fixture
def old_run(trained_project):
    """Return the run of ``trained_project``, as MLflow has it."""
    import mlflow

    (run,) = recorded(trained_project)
    return mlflow.get_run(run.id)


@pytest.fixture(scope="session")
def three_runs(trained, copy_store, session_in, shared) -> Path:
    """Return a project in git with three runs; tests must not change it.

    A training, the first of its pipelines, and that one again with another parameter
    and a new file in the code.
    """
    folder = shared / "three" / REPO
    with made_once(folder) as missing:
        if missing:
            copy_store(trained, folder)
            part: dict[str, Any] = {"pipeline_names": ["data_engineering"]}
            session_in(folder, **part)
            (folder / "src" / "new.py").write_text("new = 1\n")
            other = {"split_options": {"test_size": 0.3}}
            session_in(folder, runtime_params=other, **part)
    return folder


@pytest.fixture
def copy_of_three_runs(three_runs, open_copy) -> Path:
    """Return a copy of ``three_runs``; MLflow is led to its store."""
    return open_copy(three_runs, "three")


@pytest.fixture(scope="session")
def with_children(trained, copy_store, tmp_path_factory) -> Path:
    """Return a project whose training has child runs; tests must not change it."""
    from mlflow import MlflowClient

    folder = copy_store(trained, tmp_path_factory.mktemp("children") / REPO)
    (parent,) = recorded(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_run(parent.id).info.experiment_id
    for number in range(3):
        tags = {"mlflow.parentRunId": parent.id, "mlflow.user": "iris"}
        child = client.create_run(experiment, 1000, tags, f"child {number}")
        run_id = child.info.run_id
        for step in range(5):
            client.log_metric(run_id, "loss", 1 / (step + 1), 1000 + step, step)
        client.log_param(run_id, "number", number)
        client.log_text(run_id, "a note", "notes/note.txt")
        client.set_terminated(run_id, "FAILED" if number else "FINISHED", 2000)
    return folder


@pytest.fixture
def project_with_children(with_children, open_copy) -> Path:
    """Return a copy of ``with_children``; MLflow is led to its store."""
    return open_copy(with_children, "mine")


@pytest.fixture
def parent_run(project_with_children):
    """Return the run of ``project_with_children`` that has child runs."""
    import mlflow

    runs = recorded(project_with_children)
    return mlflow.get_run(next(run.id for run in runs if "kedro.run_id" in run.tags))


@pytest.fixture
def command_error(module) -> type[Exception]:
    """Return the error that a command shows as one line."""
    return module("tracking.commands.project_runs").CommandError


@pytest.fixture(scope="session")
def session_in(importable) -> Callable[..., Any]:
    """Return ``session_run`` for fixtures of modules: it takes the folder, too."""

    def run(folder: Path, pipeline=None, **options):
        with restored_process():
            return run_session(folder, pipeline, **options)

    return run


@pytest.fixture
def kedro_in_process(module) -> Callable[..., Any]:
    """Return a function that calls one of the project's own commands of ``kedro``.

    The function takes the words, the folder, and environment variables; it returns
    what click's ``CliRunner`` does, and leaves the process as it was.
    """
    from click.testing import CliRunner
    from kedro.framework import project as kedro_project

    def call(*words, folder: Path, **env: str):
        if kedro_project.PACKAGE_NAME != PACKAGE:  # it takes a third of a second
            kedro_project.configure_project(PACKAGE)
        with restored_process():
            os.environ.update(env)
            cli, metadata = module("cli").cli, SimpleNamespace(project_path=folder)
            return CliRunner().invoke(cli, list(map(str, words)), obj=metadata)

    return call


@pytest.fixture
def runs_of(project) -> Callable[[], list[Run]]:
    """Return a function that reads all runs of the project's store, oldest first."""
    return lambda: recorded(project)


@pytest.fixture
def server(empty_store, tmp_path) -> Iterator[LocalServer]:
    """Return a real MLflow server whose requests a test can break."""
    server = LocalServer(tmp_path / "server", empty_store)
    yield server
    end_active_runs()
    server.close()


@pytest.fixture
def messages(importable) -> Iterator[list[str]]:
    """Return what the package logs, at INFO and above."""
    from kedro.framework import project as kedro_project

    if kedro_project.PACKAGE_NAME != PACKAGE:  # this takes the handlers of loggers away
        kedro_project.configure_project(PACKAGE)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore
    logger = logging.getLogger(f"{PACKAGE}.tracking")  # Kedro configures its parent
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def runs_of_server(server, project):
    """Return a function that reads the server's runs; sessions record there."""
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    return lambda: recorded(server.folder, "server.db")
