"""Ways to make and launch a generated project, and to read what was recorded."""

import base64
import csv
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
NAME, REPO, PACKAGE = "Iris Flowers", "iris-flowers", "iris_flowers"
AUTHOR = ("-c", "user.name=Iris", "-c", "user.email=iris@example.org")


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what would steer Kedro or MLflow."""
    steering = ("MLFLOW_", "KEDRO_", "CONDA", "VIRTUAL_ENV", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
    silent = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **silent, **changes}


def run(*command, cwd: Path, ok: bool = True, timeout: float = 900, **changes: str):
    """Run a command in the clean environment; its output must explain a failure."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if ok and result.returncode:
        said = f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        pytest.fail(f"{command} exited {result.returncode}\n{said}")
    return result


def git(project: Path, *words: str) -> str:
    """Run git in a folder as an author, and return what it says."""
    return run("git", *AUTHOR, *words, cwd=project).stdout.strip()


def answer(done: subprocess.CompletedProcess) -> list[str]:
    """Return the lines of a command, without Kedro's first ones about logging."""
    lines = done.stdout.splitlines()
    return [line for line in lines if not re.match(r"\[\d\d/|\s{20,}INFO", line)]


def get_json(request: str | urllib.request.Request) -> Any:
    """Return the JSON that an address answers with."""
    with urllib.request.urlopen(request, timeout=60) as answered:
        return json.load(answered)


def generate(folder: Path, *options: str, name: str = NAME) -> Path:
    """Generate a project as users do, and return its folder."""
    before = set(folder.iterdir())
    command = (sys.executable, "-m", "kedro", "new", f"--starter={ROOT}")
    run(*command, f"--name={name}", "--telemetry=no", *options, cwd=folder)
    (project,) = set(folder.iterdir()) - before
    return project


BIN = "Scripts" if os.name == "nt" else "bin"


def build_environment(folder: Path, *requirements: str, python: str = sys.executable):
    """Make a virtual environment that holds only the requirements; return its bin."""
    run("uv", "venv", "--quiet", f"--python={python}", folder, cwd=folder.parent)
    bin_ = folder / BIN
    # Not compiled: a test imports a third of the modules, which Python compiles then.
    install = ("uv", "pip", "install", "--quiet", f"--python={bin_ / 'python'}")
    run(*install, *requirements, cwd=folder.parent)
    return bin_


@contextmanager
def made_once(folder: Path) -> Iterator[bool]:
    """Yield whether a folder is still to be made: one process makes it for all."""
    done = folder.with_suffix(".done")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        yield not done.exists()
        done.touch()


def shared_environment(folder: Path, *requirements: str) -> Path:
    """Make a virtual environment once for all processes of the tests."""
    with FileLock(folder.with_suffix(".lock")):
        if folder.exists():
            return folder / BIN
        return build_environment(folder, *requirements)


def interpreters() -> list[tuple[tuple[int, ...], str]]:
    """Return the installed CPythons that are supported, oldest first."""
    path = os.environ["PATH"]
    if shutil.which("pyenv"):
        pyenv = Path(run("pyenv", "root", cwd=ROOT).stdout.strip())
        path = os.pathsep.join([path, *map(str, pyenv.glob("versions/*/bin"))])
    listing = ("uv", "python", "list", "--only-installed", "--output-format=json")
    found = json.loads(run(*listing, cwd=ROOT, PATH=path).stdout)
    supported = [
        (tuple(python["version_parts"].values()), python["path"])
        for python in found
        if python["implementation"] == "cpython"
        and python["variant"] == "default"
        and python["version"].replace(".", "").isdigit()
        and "shims" not in Path(python["path"]).parts
    ]
    return sorted(entry for entry in supported if entry[0] >= (3, 10))


def groups(project: Path, *names: str) -> list[str]:
    """Return pip's arguments for a project's requirements and dependency groups."""
    file = project / "pyproject.toml"
    named = [word for name in names for word in ("--group", f"{file}:{name}")]
    return ["-r", str(project / "requirements.txt"), *named]


def path_of(bin_: Path) -> str:
    """Return the PATH of a shell in which an environment is active."""
    return f"{bin_}{os.pathsep}{os.environ['PATH']}"


def lint_workflow(file: Path):
    """Check a workflow with actionlint, which checks its scripts with shellcheck."""
    path = path_of(Path(sys.executable).parent)
    return run("actionlint", "-no-color", file, cwd=file.parent, ok=False, PATH=path)


def start(*command, cwd: Path, output=subprocess.DEVNULL, **changes: str):
    """Start a command in the clean environment, as the leader of a process group."""
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def showing(user: str, password: str, *places: Path) -> list[Path]:
    """Return the files, those in folders too, in which a password can be read."""
    assert all(place.exists() for place in places)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    marks = [text.encode() for text in (password, quote(password, safe=""), pair)]
    files = [file for place in places for file in (place, *place.rglob("*"))]
    content = {file: file.read_bytes() for file in files if file.is_file()}
    return [file for file, text in content.items() if any(m in text for m in marks)]


def with_files_beside(project: Path) -> tuple[str, str]:
    """Add an environment whose data lie in another folder.

    Returns:
        The options of a run that shares no file with the other runs of the project.
    """
    folder = project / "conf" / "beside"
    folder.mkdir()
    entry = (
        "{name}: {{type: pandas.ParquetDataset, filepath: data/beside/{name}.parquet}}"
    )
    text = "\n".join(entry.format(name=name) for name in ("train", "test"))
    (folder / "catalog.yml").write_text(f"{text}\n")
    return "--pipelines=data_engineering", "--env=beside"


def wait_for(pattern: str, log, process) -> None:
    """Return when the log says something."""
    while not re.search(pattern, log.read_text()):
        assert process.poll() is None, log.read_text()[-4000:]
        time.sleep(0.05)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(
    *command, port: int, log: Path, health: str = "health", fork: Any = None, **options
) -> Iterator[tuple[str, Any]]:
    """Start a server, wait until it answers, and stop it and its children at the end.

    Args:
        command: The words that start it.
        port: The port that they name.
        log: The file for what it prints.
        health: The path that answers when it is ready.
        fork: The ``ForkServer`` that forks it; by default it is a new process.
        options: ``cwd`` and environment variables, as for ``start``.

    Yields:
        Its address and its process.
    """
    url = f"http://127.0.0.1:{port}"
    if fork:
        process = fork.start(*command, output=log, **options)
    else:
        with log.open("w") as output:
            process = start(*command, output=output, **options)
    deadline = time.monotonic() + 300
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/{health}", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
        yield url, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def tracking_server(bin_: Path, folder: Path, port: int):
    """Serve an MLflow store of its own in a folder; see ``serving``."""
    if (database := folder / "server.db").exists():  # a copy of the empty store
        with closing(sqlite3.connect(database)) as db, db:
            place = "UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'"
            db.execute(
                f"{place} WHERE experiment_id = 0 AND lifecycle_stage = 'active'"
            )
    words = [bin_ / "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    words += ["--workers=1", f"--backend-store-uri=sqlite:///{folder / 'server.db'}"]
    words += [f"--artifacts-destination={folder / 'artifacts'}"]
    options = {"cwd": folder, "PATH": path_of(bin_)}
    options["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # six more processes
    return serving(*words, port=port, log=folder / "server.log", **options)


METRICS = {"accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss"}

# Put at the head of train_model: what a test asks the node to do.
BEHAVIOUR = """
    import os, pathlib, time
    match os.environ.get("BEHAVIOUR"):
        case "raise":
            mlflow.log_metric("before_failure", 1.0)
            raise ValueError("boom")
        case "wait":
            pathlib.Path(os.environ["READY"]).touch()
            time.sleep(90)
        case "wait below":
            mlflow.start_run(nested=True)
            pathlib.Path(os.environ["READY"]).touch()
            time.sleep(90)
        case "nested":
            mlflow.start_run(nested=True, run_name="left open")
        case "ended":
            mlflow.end_run()
"""
SESSION = """
import os, sys, mlflow
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(os.environ["PROJECT"])
def session_run():
    with KedroSession.create(os.environ["PROJECT"]) as session:
        session.run()
"""


@dataclass
class Run:
    """What a tracking database says of a run."""

    id: str
    status: str
    experiment: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: set[str] = field(default_factory=set)


def recorded(project: Path, database: str = "mlflow.db") -> list[Run]:
    """Read all runs of a SQLite store, oldest first."""
    with sqlite3.connect(project / database) as db:
        rows = db.execute(
            "SELECT run_uuid, status, e.name, r.name, artifact_uri FROM runs r"
            " JOIN experiments e USING (experiment_id) ORDER BY start_time"
        ).fetchall()
        found = []
        for id_, status, experiment, name, folder in rows:
            tables = [
                dict(db.execute(f"SELECT key, value FROM {t} WHERE run_uuid=?", [id_]))
                for t in ("tags", "params", "latest_metrics")
            ]
            base = Path(folder.removeprefix("file://"))
            files = {str(f.relative_to(base)) for f in base.rglob("*") if f.is_file()}
            found.append(Run(id_, status, experiment, name, *tables, files))
    return found


def tagged(run_id: str, **tags: str) -> Any:
    """Give tags to a run; return it as MLflow has it."""
    from mlflow import MlflowClient

    for name, text in tags.items():
        MlflowClient().set_tag(run_id, name, text)
    return MlflowClient().get_run(run_id)


def environment_file(run: Any, name: str) -> Path:
    """Return a file among the artifacts that reproduce a run of MLflow's."""
    return Path(run.info.artifact_uri) / "environment" / name


def start_waiting(
    launcher: str, bin_: Path, project: Path, behaviour: str = "wait", **changes: str
) -> subprocess.Popen:
    """Start a pipeline in a process of its own; return when its node is at work."""
    words, env = command(launcher, bin_, project)
    process = start(*words, cwd=project, **{**env, "BEHAVIOUR": behaviour, **changes})
    ready, deadline = Path(env["READY"]), time.monotonic() + 120
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    ready.unlink()
    return process


def command(launcher: str, bin_: Path, project: Path) -> tuple[list[str], dict]:
    """Return the words and the environment of a way to run the pipeline."""
    kedro, python = str(bin_ / "kedro"), str(bin_ / "python")
    mlflow_run = [str(bin_ / "mlflow"), "run", str(project), "--env-manager", "local"]
    env = {
        "PATH": path_of(bin_),
        "PROJECT": str(project),
        "READY": str(project / "data" / "ready"),
        "PYTHONPATH": str(project / "src"),
    }
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}"}
    named = {"MLFLOW_EXPERIMENT_NAME": "elsewhere"}
    words, extra = {
        "sequential": ([kedro, "run"], {}),
        "async": ([kedro, "run", "--async"], {}),
        "thread": ([kedro, "run", "--runner=ThreadRunner"], {}),
        "thread async": (
            [kedro, "run", "--runner=ThreadRunner", "--runner-params=max_workers=3"],
            {},
        ),
        "parallel": ([kedro, "run", "--runner=ParallelRunner"], {}),
        "parallel spawn": (
            [kedro, "run", "--runner=ParallelRunner"],
            {"KEDRO_MP_CONTEXT": "spawn"},
        ),
        "parallel forkserver": (
            [kedro, "run", "--runner=ParallelRunner"],
            {"KEDRO_MP_CONTEXT": "forkserver"},
        ),
        "module": ([python, "-m", PACKAGE], {}),
        "session": ([python, "-c", SESSION + "session_run()"], {}),
        "caller's run": (
            [
                python,
                "-c",
                SESSION + "with mlflow.start_run(run_name='mine'):\n  session_run()",
            ],
            uri,
        ),
        "mlflow run": (mlflow_run, uri),
        "mlflow run with names": (
            [*mlflow_run, "--experiment-name", "given", "--run-name", "given"],
            uri | named,
        ),
        "MLFLOW_EXPERIMENT_NAME": (mlflow_run, uri | named),
    }[launcher]
    return words, env | extra


def launch(
    launcher, bin_, project, run=run, **changes: str
) -> subprocess.CompletedProcess:
    """Run the pipeline; ``run`` may be that of a ``ForkServer``."""
    words, env = command(launcher, bin_, project)
    return run(*words, cwd=project, ok=False, **{**env, **changes})


def run_script(text: str, bin_, project, launcher="session", cwd=None, run=run):
    """Run Python text with the environment that a launcher would have."""
    _, env = command(launcher, bin_, project)
    return run(bin_ / "python", "-c", text, cwd=cwd or project, **env)


def point_at(scheduler: str, project: Path) -> None:
    """Write the address of a scheduler into the project's conf/cluster."""
    file = project / "conf" / "cluster" / "globals.yml"
    file.write_text(re.sub(r"tcp://\S+", scheduler, file.read_text()))


def write_flowers(
    file: Path, project: Path, *, labelled: bool, **longer: float
) -> None:
    """Write the flowers of the training; some measures may be longer."""
    with (project / "data/01_raw/iris.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    names = [name for name in rows[0] if labelled or name != "species"]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            moved = {n: f"{float(row[n]) + more:.1f}" for n, more in longer.items()}
            writer.writerow(row | moved)


class Cluster:
    """A Dask scheduler and two workers, each a process."""

    def __init__(self, bin_, folder, stack: ExitStack) -> None:
        self._dask, self._folder, self._stack = bin_ / "dask", folder, stack
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        options = ("--host=127.0.0.1", "--no-dashboard")
        self.scheduler = self._start("scheduler", *options, f"--port={port}")
        options = ("--nthreads=1", "--no-nanny", "--no-dashboard")
        self.workers = [self._start("worker", self.address, *options) for _ in "12"]

    def _start(self, *words):
        process = start(self._dask, *words, cwd=self._folder)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process
