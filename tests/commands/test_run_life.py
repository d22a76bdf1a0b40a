"""One pipeline run is one MLflow run: launchers by outcomes.

What depends on the launcher is asserted here, the rest in ``tests/unit/test_hooks.py``.
"""

import os
import shutil
import signal
import subprocess
import time
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from runs import (
    METRICS,
    PACKAGE,
    REPO,
    command,
    launch,
    recorded,
    run,
    run_script,
    start_waiting,
    with_files_beside,
)

OWN = ["sequential", "async", "thread", "thread async", "parallel", "parallel spawn"]
OWN += ["parallel forkserver", "module", "session"]
JOINED = ["caller's run", "mlflow run", "mlflow run with names"]
JOINED += ["MLFLOW_EXPERIMENT_NAME"]
# With these, too, `kedro run` is the same command: one true process shows it.
SAME = ["async", "thread", "thread async", "parallel"]
# Workers that are started anew import what their parent was started with.
TRUE = ["parallel spawn", "parallel forkserver"]
PART = "--pipelines=data_engineering"


@pytest.fixture
def launch_forked(fork, bin_, project_with_store):
    """Return a function that runs the pipeline by a launcher, forked where it can be.

    ``mlflow run`` is forked; the ``kedro run`` that it starts is a process of its own.
    """

    def call(launcher: str, **changes: str) -> subprocess.CompletedProcess:
        runner = run if launcher in TRUE else fork.run
        return launch(launcher, bin_, project_with_store, run=runner, **changes)

    return call


@pytest.mark.parametrize("launcher", OWN + JOINED)
def test_success(launcher, project_with_store, bin_, launch_forked):
    if launcher in [*SAME, *JOINED[2:]]:  # `mlflow run` alone is a true process
        result = launch_forked(launcher)
    else:
        result = launch(launcher, bin_, project_with_store)
    assert result.returncode == 0, result.stdout + result.stderr
    (one,) = recorded(project_with_store)
    assert one.status == "FINISHED"
    assert METRICS <= set(one.metrics) and one.metrics["accuracy"] >= 0.9
    assert one.params["model_options.C"] == "1.0"
    assert {"data/iris.csv", "figures/confusion_matrix.png"} <= one.artifacts
    assert one.tags["kedro.version"] and one.tags["kedro.run_id"]
    assert not [tag for tag in one.tags if tag.startswith("failure")]
    assert one.experiment == {
        "caller's run": "Default",
        "mlflow run": "Default",
        "mlflow run with names": "given",
        "MLFLOW_EXPERIMENT_NAME": "elsewhere",
    }.get(launcher, PACKAGE)
    if launcher == "caller's run":
        assert one.name == "mine"
    if launcher == "mlflow run with names":
        assert one.name == "given"


@pytest.mark.parametrize("launcher", [*OWN[:6], *OWN[7:], *JOINED[:2]])
def test_a_node_that_raises(launcher, launch_forked, project_with_store):
    result = launch_forked(launcher, BEHAVIOUR="raise")
    assert result.returncode != 0 and "boom" in result.stdout + result.stderr
    (one,) = recorded(project_with_store)
    assert one.status == "FAILED"
    assert one.tags["failure.node"] == "train_model"
    assert one.tags["failure.error"] == "ValueError: boom"
    assert "failure/traceback.txt" in one.artifacts
    assert one.metrics == {"before_failure": 1.0}


@pytest.mark.parametrize("launcher", ["thread", "parallel"])
def test_a_dataset_that_cannot_be_loaded(launcher, launch_forked, project_with_store):
    raw = project_with_store / "data" / "01_raw" / "iris.csv"
    raw.write_text("sepal_length\n1.0\n")
    result = launch_forked(launcher)
    assert result.returncode != 0
    (one,) = recorded(project_with_store)
    assert one.status == "FAILED" and one.tags["failure.node"] == "split_data"
    assert "missing column(s): sepal_width" in one.tags["failure.error"]
    assert not (project_with_store / "data" / "06_models" / "model.pkl").exists()


# `tests/unit/test_hooks.py` has both, in one process.
LEFT = [("parallel", "nested"), ("parallel", "ended"), ("mlflow run", "ended")]


@pytest.mark.parametrize("launcher, behaviour", LEFT)
def test_a_node_that_leaves_runs_open_or_ends_ours(
    launcher, behaviour, launch_forked, project_with_store
):
    result = launch_forked(launcher, BEHAVIOUR=behaviour)
    assert result.returncode == 0, result.stdout + result.stderr
    runs = recorded(project_with_store)
    assert {one.status for one in runs} == {"FINISHED"}
    (parent,) = (one for one in runs if "mlflow.parentRunId" not in one.tags)
    assert METRICS <= set(parent.metrics) or behaviour == "nested"
    assert len(runs) == (2 if behaviour == "nested" else 1)


PARTS = [f"{PART} --nodes=split_data", "--to-nodes=train_model"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_pipeline_is_a_run_too(part, project_with_store, kedro):
    kedro("run", *part.split(), cwd=project_with_store)
    (one,) = recorded(project_with_store)
    assert one.status == "FINISHED"
    for option in part.split():
        name, _, value = option.removeprefix("--").partition("=")
        key = {"nodes": "node_names", "to-nodes": "to_nodes"}.get(name, "pipeline")
        assert one.tags[f"kedro.{key}"] == value


@pytest.mark.parametrize(
    "option, said",
    [
        ("--tags=none-of-them", ""),  # Kedro refuses an empty pipeline
        ("--params=model_option.C=1", "Did you mean model_options?"),
    ],
)
def test_what_is_refused_leaves_no_run(option, said, project_with_store, kedro):
    result = kedro("run", option, cwd=project_with_store, ok=False)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert recorded(project_with_store) == []


def test_the_last_line_is_what_scikit_learn_says(project_with_store, kedro):
    option = "--params=model_options.C=-1"
    result = kedro("run", option, cwd=project_with_store, ok=False, COLUMNS="300")
    assert result.returncode != 0
    said = "InvalidParameterError: The 'C' parameter of LogisticRegression must be"
    assert said in result.stderr.splitlines()[-1]
    (one,) = recorded(project_with_store)
    assert one.status == "FAILED" and said in one.tags["failure.error"]


def test_asynchronous_logging_and_workers(project_with_store, launch_forked):
    result = launch_forked("parallel", MLFLOW_ENABLE_ASYNC_LOGGING="true")
    assert result.returncode == 0
    (one,) = recorded(project_with_store)
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)


INTERRUPTED = {
    ("sequential", signal.SIGINT): "KILLED",
    ("sequential", signal.SIGTERM): "KILLED",
    ("parallel", signal.SIGINT): "KILLED",
    ("parallel", signal.SIGTERM): "KILLED",
    ("caller's run", signal.SIGINT): "FAILED",
    ("mlflow run", signal.SIGINT): "FAILED",
    ("mlflow run", signal.SIGTERM): "KILLED",
}


@pytest.mark.parametrize(
    "launcher, number, status",
    [(*key, value) for key, value in INTERRUPTED.items()],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_interrupted_run_says_so(launcher, number, status, project_with_store, bin_):
    process = start_waiting(launcher, bin_, project_with_store)
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    deadline = time.monotonic() + 20  # the project's process may outlive its launcher
    while recorded(project_with_store)[0].status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (one,) = recorded(project_with_store)
    assert one.status == status
    while found := processes_of(project_with_store):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def processes_of(project: Path) -> list[str]:
    """Return the commands of live processes that mention the project."""
    listing = subprocess.run(["ps", "axo", "stat,args"], capture_output=True, text=True)
    lines = listing.stdout.splitlines()
    return [line for line in lines if str(project) in line and "pytest" not in line]


def test_sigterm_to_the_parent_stops_its_workers(project_with_store, bin_):
    process = start_waiting("parallel", bin_, project_with_store)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    (one,) = recorded(project_with_store)
    assert one.status == "KILLED"


def kill(process: subprocess.Popen) -> None:
    """Kill a process and its children, as a lack of memory does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def test_a_killed_run_is_told_apart_by_the_next_start_in_its_folder(
    project_with_store, kedro, bin_, tmp_path
):
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project_with_store / 'mlflow.db'}"}
    part = with_files_beside(project_with_store)
    process = start_waiting("sequential", bin_, project_with_store, "wait below")
    copy = shutil.copytree(project_with_store, tmp_path / "copy")
    kedro("run", *part, cwd=project_with_store)
    kedro("run", *part, cwd=copy, **uri)
    running, finished = ["RUNNING"] * 2, ["FINISHED"] * 2
    assert statuses(project_with_store) == running + finished
    assert process.poll() is None
    kill(process)
    kedro("run", *part, cwd=copy, **uri)  # copied files are ignored
    shutil.copy(project_with_store / "mlflow.db", project_with_store / "other.db")
    other = {"MLFLOW_TRACKING_URI": f"sqlite:///{project_with_store / 'other.db'}"}
    kedro("run", *part, cwd=project_with_store, **other)
    assert statuses(project_with_store)[:2] == running
    moved = project_with_store.rename(project_with_store.parent / "moved")
    kedro("run", *part, cwd=moved)
    assert statuses(moved)[:2] == ["KILLED"] * 2  # the run and what ran below it
    assert recorded(moved)[0].tags["failure.error"] == "the process died"
    assert not list((moved / ".runs").glob("*.db"))


def statuses(project: Path) -> list[str]:
    return [one.status for one in recorded(project)]


def test_a_notebook_that_was_interrupted_starts_a_new_run(
    project_with_store, bin_, fork
):
    script = f"""
import os, pathlib, signal, threading, time
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic("load_ext", "kedro.ipython")
shell.run_line_magic("reload_kedro", os.environ["PROJECT"])
def interrupt():
    while not pathlib.Path(os.environ["READY"]).exists():
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
os.environ["BEHAVIOUR"] = "wait"
threading.Thread(target=interrupt).start()
shell.run_cell("session.run()")
import mlflow
assert mlflow.active_run() is not None
del os.environ["BEHAVIOUR"]
shell.run_line_magic("reload_kedro", os.environ["PROJECT"])
assert mlflow.active_run() is None
assert shell.run_cell("session.run()").success
assert mlflow.get_tracking_uri().endswith("{REPO}/mlflow.db")
"""
    options = {"cwd": project_with_store.parent, "run": fork.run}
    run_script(script, bin_, project_with_store, **options)
    assert statuses(project_with_store) == ["KILLED", "FINISHED"]


def test_mlflow_run_inside_a_run_is_nested(project_with_store, bin_, fork):
    script = (
        "import mlflow, os, sys\n"
        "with mlflow.start_run(run_name='outer'):\n"
        "    mlflow.projects.run(os.environ['PROJECT'], env_manager='local',"
        " parameters={'C': '0.50'})\n"
    )
    run_script(script, bin_, project_with_store, "caller's run", run=fork.run)
    outer, inner = recorded(project_with_store)
    assert outer.name == "outer" and outer.metrics == {}
    assert inner.tags["mlflow.parentRunId"] == outer.id
    assert inner.status == outer.status == "FINISHED"
    assert inner.params["C"] == "0.50" and METRICS <= set(inner.metrics)
    assert float(inner.params["model_options.C"]) == 0.5


def test_mlflow_run_accepts_any_spelling_of_a_number(project_with_store, bin_, fork):
    words, env = command("mlflow run", bin_, project_with_store)
    numbers = {"C": "1e-2", "test_size": ".5", "random_state": "1"}
    options = [word for item in numbers.items() for word in ("-P", "=".join(item))]
    fork.run(*words, *options, cwd=project_with_store, **env)
    (one,) = recorded(project_with_store)
    assert one.status == "FINISHED"
    for name, number in numbers.items():
        group = "model_options" if name == "C" else "split_options"
        assert one.params[name] == number
        assert float(one.params[f"{group}.{name}"]) == float(number)


def test_the_wheel_records_where_it_is_run(
    project_with_store, bin_, kedro, fork, tmp_path
):
    dist = project_with_store / "dist"
    kedro("package", cwd=project_with_store)
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (n for n in files.namelist() if n.endswith(".dist-info/METADATA"))
        asked = message_from_bytes(files.read(name)).get_all("Requires-Dist")
    lines = (project_with_store / "requirements.txt").read_text().splitlines()
    assert set(map(Requirement, asked)) == set(map(Requirement, lines))
    away = tmp_path / "away"
    (away / "site").mkdir(parents=True)
    install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target")
    run(*install, away / "site", wheel, cwd=away)
    run("tar", "-xzf", *dist.glob("conf-*.tar.gz"), "-C", away, cwd=away)
    raw = Path("data", "01_raw", "iris.csv")
    (away / raw).parent.mkdir(parents=True)
    shutil.copy(project_with_store / raw, away / raw)
    module = (bin_ / "python", "-m", PACKAGE, "--conf-source=conf")
    fork.run(*module, cwd=away, PYTHONPATH=str(away / "site"))
    (one,) = recorded(away)
    assert one.status == "FINISHED" and one.experiment == PACKAGE
    assert recorded(project_with_store) == []
