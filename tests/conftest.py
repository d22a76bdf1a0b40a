"""A generated project, an environment made of its requirements, and ways to run it."""

import os
import shlex
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock
from harness import ForkServer
from own_data import start_all
from runs import (
    BEHAVIOUR,
    PACKAGE,
    REPO,
    ROOT,
    Cluster,
    build_environment,
    generate,
    git,
    groups,
    made_once,
    path_of,
    run,
    shared_environment,
)

# As `make` has it: a test that is repeated alone finds uv and the other tools.
if str(Path(sys.executable).parent) not in os.environ["PATH"].split(os.pathsep):
    os.environ["PATH"] = path_of(Path(sys.executable).parent)
# A shell ignores Ctrl-C for what it starts in the background; our children must not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Path:
    """Return a folder that all workers of this test session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def generated(shared) -> Path:
    """Return one generated project; tests must not change it."""
    folder = shared / "generated"  # of its own: others make files in the shared one
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        project = folder / REPO
        return project if project.exists() else generate(folder)


@pytest.fixture
def project(generated, tmp_path) -> Path:
    """Return a freshly generated project of the test's own."""
    return shutil.copytree(generated, tmp_path / REPO)


@pytest.fixture(scope="session")
def bin_() -> Path:
    """Return the ``bin`` of the environment of these tests, which the project shares.

    It has more than requirements.txt names; ``test_end_to_end.py`` installs those only.
    """
    return Path(sys.executable).parent


@pytest.fixture(scope="session")
def workbench(shared, generated) -> Path:
    """Return the ``bin`` of an environment of all that pyproject.toml names.

    It also has what docs/team.md installs on a server.
    """
    folder = shared / "workbench"
    with made_once(folder) as missing:
        if missing:
            named = groups(generated, "cluster", "dev", "notebook", "viz")
            build_environment(folder, *named, "psycopg2-binary", "mlflow[auth]")
    return folder / "bin"


@pytest.fixture(scope="session")
def dist(shared) -> Path:
    """Return the folder of the sdist and of the wheel that is built from it."""
    with FileLock(shared / "dist.lock"):
        folder = shared / "dist"
        if not folder.exists():
            run("uv", "build", "--quiet", f"--out-dir={folder}", ROOT, cwd=shared)
        return folder


@pytest.fixture(scope="session")
def wheel(dist) -> Path:
    """Return the wheel of this repository."""
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def site(wheel, shared) -> Path:
    """Return a folder with the wheel's content, to be named in PYTHONPATH."""
    with FileLock(shared / "site.lock"):
        folder = shared / "site"
        if not folder.exists():
            install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target")
            run(*install, folder, wheel, cwd=shared)
        return folder


@pytest.fixture(scope="session")
def installed(wheel, shared) -> Path:
    """Return the ``bin`` of an environment that holds the wheel."""
    return shared_environment(shared / "installed", str(wheel))


@pytest.fixture(scope="session")
def fork(tmp_path_factory) -> Iterator[ForkServer]:
    """Return what runs ``kedro``, ``mlflow`` and ``python`` by forking."""
    server = ForkServer(tmp_path_factory.mktemp("fork"))
    yield server
    server.close()


@pytest.fixture
def kedro(fork, bin_, project):
    """Return a function that runs ``kedro`` in the project, in a forked process.

    Its window is wide: a message is a line.
    """

    def command(*words: str, cwd: Path = project, ok: bool = True, **changes: str):
        env = {"PATH": path_of(bin_), "COLUMNS": "300", **changes}
        return fork.run(bin_ / "kedro", *words, cwd=cwd, ok=ok, **env)

    return command


@pytest.fixture
def kedro_process(bin_, project):
    """Return a function that runs ``kedro`` in the project, in a process of its own."""

    def command(*words: str, cwd: Path = project, ok: bool = True, **changes: str):
        env = {"PATH": path_of(bin_), **changes}
        return run(bin_ / "kedro", *words, cwd=cwd, ok=ok, **env)

    return command


@pytest.fixture(scope="session")
def empty_store(shared, pytestconfig) -> Path:
    """Return a migrated tracking database without runs, to save each test the wait.

    It is kept in pytest's cache, for each version of MLflow.
    """
    import mlflow
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = shared / "store.db"
    with FileLock(shared / "store.lock"):
        if store.exists():
            return store
        kept = pytestconfig.cache.mkdir("stores") / f"mlflow-{mlflow.__version__}.db"
        part = shared / "store.part"
        if kept.exists():
            shutil.copy(kept, part)
        else:
            SqlAlchemyStore(f"sqlite:///{part}", str(shared / "none")).engine.dispose()
            shutil.copy(part, f"{kept}.part")
            os.replace(f"{kept}.part", kept)
        with sqlite3.connect(part) as db:
            place = str(shared / "none" / "0")
            db.execute("UPDATE experiments SET artifact_location = ?", [place])
        part.rename(store)
    return store


@pytest.fixture
def project_with_store(project, empty_store):
    """Return a project with an empty store; ``BEHAVIOUR`` says what train_model does.

    Without this variable, it trains.
    """
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    nodes = project / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = make_pipeline(")
    assert mark
    nodes.write_text(head + BEHAVIOUR.lstrip("\n") + mark + tail)
    return project


@pytest.fixture(scope="session")
def trained(shared, generated, empty_store, fork, bin_) -> Path:
    """Return a project in which `kedro run` has trained; tests must not change it."""
    folder = shared / "trained by a command" / REPO
    with FileLock(shared / "trained_by_command.lock"):
        if not (done := folder.with_suffix(".done")).exists():
            shutil.copytree(generated, folder)
            shutil.copy(empty_store, folder / "mlflow.db")
            fork.run(bin_ / "kedro", "run", cwd=folder, PATH=path_of(bin_))
            done.touch()
    return folder


@pytest.fixture
def trained_project(trained, project) -> Path:
    """Return the test's own project after one training, whose model is champion."""
    return shutil.copytree(trained, project, dirs_exist_ok=True)


@pytest.fixture
def project_in_git(project_with_store) -> Path:
    """Return a project in git, with a store; see ``project_with_store``."""
    git(project_with_store, "init", "--quiet", "--initial-branch=main")
    git(project_with_store, "add", "--all")
    git(project_with_store, "commit", "--quiet", "--message=first")
    return project_with_store


@pytest.fixture
def scored_project(trained_project, kedro) -> Path:
    """Return a project that has trained a model and scored with it."""
    kedro("run", "--pipelines=score")
    return trained_project


@pytest.fixture
def at_once(fork, bin_, project_with_store):
    """Return a function that starts ``kedro`` once for each list of options."""
    return lambda *lists: start_all(fork, bin_, project_with_store, lists)


@pytest.fixture
def chromium():
    """Return a headless browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next(filter(None, map(shutil.which, names)), None)
    if not installed:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=installed, args=options)
        yield browser
        browser.close()


@pytest.fixture
def cluster(workbench, tmp_path):
    with ExitStack() as stack:
        yield Cluster(workbench, tmp_path, stack)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how each test that failed is repeated alone."""
    reports = terminalreporter.stats
    failed = {r.nodeid for kind in ("failed", "error") for r in reports.get(kind, ())}
    if failed:
        terminalreporter.section("repeat alone")
    for test in sorted(failed):
        command = shlex.join([".venv/bin/python", "-m", "pytest", test])
        terminalreporter.write_line(command)
