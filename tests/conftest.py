"""A generated project, an environment made of its requirements, and ways to run it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
NAME, REPO, PACKAGE = "Iris Flowers", "iris-flowers", "iris_flowers"

# A shell ignores Ctrl-C for what it starts in the background; our children must not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what would steer Kedro or MLflow."""
    steering = ("MLFLOW_", "KEDRO_", "CONDA", "VIRTUAL_ENV", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
    silent = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **silent, **changes}


def run(*command, cwd: Path, ok: bool = True, **changes: str):
    """Run a command in the clean environment; its output must explain a failure."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if ok and result.returncode:
        said = f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        pytest.fail(f"{command} exited {result.returncode}\n{said}")
    return result


def generate(folder: Path, *options: str, name: str = NAME) -> Path:
    """Generate a project as users do, and return its folder."""
    before = set(folder.iterdir())
    command = (sys.executable, "-m", "kedro", "new", f"--starter={ROOT}")
    run(*command, f"--name={name}", "--telemetry=no", *options, cwd=folder)
    (project,) = set(folder.iterdir()) - before
    return project


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
    with FileLock(shared / "generated.lock"):
        project = shared / REPO
        return project if project.exists() else generate(shared)


@pytest.fixture
def project(generated, tmp_path) -> Path:
    """Return a freshly generated project of the test's own."""
    return shutil.copytree(generated, tmp_path / REPO)


def build_environment(folder: Path, *requirements: str, python: str = sys.executable):
    """Make a virtual environment that holds only the requirements; return its bin."""
    run("uv", "venv", "--quiet", f"--python={python}", folder, cwd=folder.parent)
    bin_ = folder / ("Scripts" if os.name == "nt" else "bin")
    install = ("uv", "pip", "install", "--quiet", "--compile-bytecode")
    run(*install, f"--python={bin_ / 'python'}", *requirements, cwd=folder.parent)
    return bin_


@pytest.fixture(scope="session")
def bin_(shared, generated) -> Path:
    """Return the ``bin`` of an environment of requirements.txt, pytest and ruff."""
    with FileLock(shared / "environment.lock"):
        folder = shared / "environment"
        if folder.exists():
            return folder / "bin"
        requirements = ("-r", str(generated / "requirements.txt"))
        return build_environment(folder, *requirements, "pytest", "ruff", "ipython")


@pytest.fixture
def kedro(bin_, project):
    """Return a function that runs ``kedro`` in the project as its owner would."""

    def command(*words: str, cwd: Path = project, ok: bool = True, **changes: str):
        path = f"{bin_}{os.pathsep}{os.environ['PATH']}"
        return run(bin_ / "kedro", *words, cwd=cwd, ok=ok, **{"PATH": path, **changes})

    return command


@pytest.fixture(scope="session")
def empty_store(shared, bin_):
    """Return a migrated tracking database without runs, to save each test the wait."""
    with FileLock(shared / "store.lock"):
        store = shared / "store.db"
        if not store.exists():
            run(bin_ / "mlflow", "db", "upgrade", f"sqlite:///{store}", cwd=shared)
    return store


@pytest.fixture
def life(project, empty_store):
    """Return a project whose train_model behaves as the test asks."""
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    from runs import BEHAVIOUR

    nodes = project / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = sklearn.pipeline.make")
    assert mark
    nodes.write_text(head + BEHAVIOUR.lstrip("\n") + mark + tail)
    return project
