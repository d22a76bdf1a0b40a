"""One pipeline run is one MLflow run: launchers by outcomes, on real stores."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs import (
    METRICS,
    PACKAGE,
    REPO,
    SESSION,
    command,
    launch,
    recorded,
    run,
    run_script,
    start,
)

OWN = ["sequential", "async", "thread", "thread async", "parallel", "parallel spawn"]
OWN += ["parallel forkserver", "module", "session"]
JOINED = ["caller's run", "mlflow run", "mlflow run --experiment-name"]
JOINED += ["mlflow run --run-name", "MLFLOW_EXPERIMENT_NAME"]


@pytest.mark.parametrize("launcher", OWN + JOINED)
def test_success(launcher, life, bin_):
    result = launch(launcher, bin_, life)
    assert result.returncode == 0, result.stdout + result.stderr
    (one,) = recorded(life)
    assert one.status == "FINISHED"
    assert METRICS <= set(one.metrics) and one.metrics["accuracy"] >= 0.9
    assert one.params["model_options.C"] == "1.0"
    assert {"data/iris.csv", "figures/confusion_matrix.png"} <= one.artifacts
    assert one.tags["kedro.version"] and one.tags["kedro.run_id"]
    assert not [tag for tag in one.tags if tag.startswith("failure")]
    assert one.experiment == {
        "caller's run": "Default",
        "mlflow run": "Default",
        "mlflow run --experiment-name": "given",
        "mlflow run --run-name": "Default",
        "MLFLOW_EXPERIMENT_NAME": "elsewhere",
    }.get(launcher, PACKAGE)
    if launcher == "caller's run":
        assert one.name == "mine"
    if launcher == "mlflow run --run-name":
        assert one.name == "given"


@pytest.mark.parametrize(
    "part",
    [
        "--nodes=split_data",
        "--to-nodes=train_model",
        "--pipelines=data_engineering",
        "--tags=none-of-them",
    ],
)
def test_a_part_of_the_pipeline_is_a_run_too(part, life, kedro):
    result = kedro("run", part, cwd=life, ok=False)
    runs = recorded(life)
    if part == "--tags=none-of-them":  # Kedro refuses an empty pipeline
        assert result.returncode != 0 and runs == []
        return
    assert result.returncode == 0 and [one.status for one in runs] == ["FINISHED"]
    name, _, value = part.removeprefix("--").partition("=")
    key = {"nodes": "node_names", "to-nodes": "to_nodes", "pipelines": "pipeline"}[name]
    assert runs[0].tags[f"kedro.{key}"] == value


def test_asynchronous_logging_and_workers(life, bin_):
    changes = {"MLFLOW_ENABLE_ASYNC_LOGGING": "true"}
    assert launch("parallel", bin_, life, **changes).returncode == 0
    (one,) = recorded(life)
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)


@pytest.mark.parametrize("launcher", [*OWN, "caller's run", "mlflow run"])
def test_a_node_that_raises(launcher, life, bin_):
    result = launch(launcher, bin_, life, BEHAVIOUR="raise")
    assert result.returncode != 0 and "boom" in result.stdout + result.stderr
    (one,) = recorded(life)
    assert one.status == "FAILED"
    assert one.tags["failure.node"] == "train_model"
    assert one.tags["failure.error"] == "ValueError: boom"
    assert "failure/traceback.txt" in one.artifacts
    assert one.metrics == {"before_failure": 1.0}


@pytest.mark.parametrize("launcher", ["sequential", "thread", "parallel", "mlflow run"])
def test_a_dataset_that_cannot_be_loaded(launcher, life, bin_):
    (life / "data" / "01_raw" / "iris.csv").write_text("sepal_length\n1.0\n")
    result = launch(launcher, bin_, life)
    assert result.returncode != 0
    (one,) = recorded(life)
    assert one.status == "FAILED" and one.tags["failure.node"] == "split_data"
    assert "missing column(s): sepal_width" in one.tags["failure.error"]
    assert not (life / "data" / "06_models" / "model.pkl").exists()


def test_a_dataset_that_is_not_installed(life, bin_):
    catalog = life / "conf" / "base" / "catalog.yml"
    catalog.write_text(catalog.read_text().replace("ParquetDataset", "NoDataset"))
    result = launch("sequential", bin_, life)
    assert result.returncode != 0 and "NoDataset" in result.stdout + result.stderr
    (one,) = recorded(life)
    assert one.status == "FAILED" and "NoDataset" in one.tags["failure.error"]


@pytest.mark.parametrize("launcher", ["sequential", "parallel", "mlflow run"])
@pytest.mark.parametrize("behaviour", ["nested", "ended"])
def test_a_node_that_leaves_runs_open_or_ends_ours(launcher, behaviour, life, bin_):
    result = launch(launcher, bin_, life, BEHAVIOUR=behaviour)
    assert result.returncode == 0, result.stdout + result.stderr
    runs = recorded(life)
    assert {one.status for one in runs} == {"FINISHED"}
    (parent,) = (one for one in runs if "mlflow.parentRunId" not in one.tags)
    assert METRICS <= set(parent.metrics) or behaviour == "nested"
    assert len(runs) == (2 if behaviour == "nested" else 1)


def test_a_misspelt_group_leaves_no_run_and_a_new_one_passes(life, bin_, kedro):
    result = kedro("run", "--params=model_option.C=1", cwd=life, ok=False)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "Unknown parameter: model_option. Did you mean model_options?" in last
    assert recorded(life) == []
    part = "--pipelines=data_engineering"
    result = kedro("run", part, "--params=extra=1", cwd=life, COLUMNS="300")
    assert "Parameter extra is new" in result.stdout + result.stderr
    (one,) = recorded(life)
    assert one.params["extra"] == "1" and "model_options.C" not in one.params


@pytest.mark.parametrize("launcher", ["sequential", "mlflow run"])
def test_the_last_line_is_what_scikit_learn_says_of_an_option(launcher, life, bin_):
    words, env = command(launcher, bin_, life)
    given = ["--params=model_options.C=-1"]
    given = ["-P", "C=-1"] if launcher == "mlflow run" else given
    result = run(*words, *given, cwd=life, ok=False, **env, COLUMNS="300")
    assert result.returncode != 0
    said = "InvalidParameterError: The 'C' parameter of LogisticRegression must be"
    lines = result.stderr.splitlines()
    ours = lines[-1] if launcher == "sequential" else "\n".join(lines[-3:])
    assert said in ours
    (one,) = recorded(life)
    assert one.status == "FAILED" and said in one.tags["failure.error"]


INTERRUPTED = {
    ("sequential", signal.SIGINT): "KILLED",
    ("sequential", signal.SIGTERM): "KILLED",
    ("parallel", signal.SIGINT): "KILLED",
    ("parallel", signal.SIGTERM): "KILLED",
    ("caller's run", signal.SIGINT): "FAILED",
    ("mlflow run", signal.SIGINT): "FAILED",
    ("mlflow run", signal.SIGTERM): "KILLED",
}


def start_waiting(launcher, bin_, project) -> subprocess.Popen:
    """Start a pipeline and return when its node is at work."""
    words, env = command(launcher, bin_, project)
    process = start(*words, cwd=project, **env, BEHAVIOUR="wait")
    deadline = time.monotonic() + 120
    while not (project / "data" / "ready").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.3)
    return process


@pytest.mark.parametrize(
    "launcher, number, status",
    [(*key, value) for key, value in INTERRUPTED.items()],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_interrupted_run_says_so(launcher, number, status, life, bin_):
    process = start_waiting(launcher, bin_, life)
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    deadline = time.monotonic() + 20  # the project's process may outlive its launcher
    while (one := recorded(life)[0]).status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(recorded(life)) == 1 and one.status == status
    assert not processes_of(life)


def processes_of(project: Path) -> list[str]:
    """Return the commands of live processes that mention the project."""
    listing = subprocess.run(["ps", "axo", "stat,args"], capture_output=True, text=True)
    lines = listing.stdout.splitlines()
    return [line for line in lines if str(project) in line and "pytest" not in line]


def test_sigterm_to_the_parent_stops_its_workers(life, bin_):
    process = start_waiting("parallel", bin_, life)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    (one,) = recorded(life)
    assert one.status == "KILLED"


def test_a_run_that_was_killed_is_told_apart_by_the_next_start(life, bin_):
    process = start_waiting("sequential", bin_, life)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert [one.status for one in recorded(life)] == ["RUNNING"]
    assert launch("sequential", bin_, life).returncode == 0
    killed, finished = recorded(life)
    assert killed.status == "KILLED" and finished.status == "FINISHED"
    assert killed.tags["failure.error"] == "the process died"


def test_sessions_of_one_process_are_runs_of_their_own(life, bin_):
    script = SESSION + (
        "os.environ['BEHAVIOUR'] = 'raise'\n"
        "try:\n  session_run()\nexcept ValueError: pass\n"
        "assert mlflow.active_run() is None\n"
        "del os.environ['BEHAVIOUR']\nsession_run()\n"
        "with mlflow.start_run(run_name='mine') as run:\n"
        "  session_run()\n  session_run()\n"
        "  assert mlflow.active_run().info.run_id == run.info.run_id\n"
    )
    run_script(script, bin_, life)
    statuses = [(one.status, one.experiment) for one in recorded(life)]
    assert statuses[:2] == [("FAILED", PACKAGE), ("FINISHED", PACKAGE)]
    (mine,) = recorded(life)[2:]
    assert mine.name == "mine" and mine.status == "FINISHED"


def test_a_notebook_that_was_interrupted_starts_a_new_run(life, bin_):
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
    run_script(script, bin_, life, cwd=life.parent)
    assert [one.status for one in recorded(life)] == ["KILLED", "FINISHED"]


def test_mlflow_run_inside_a_run_is_nested(life, bin_):
    script = (
        "import mlflow, os, sys\n"
        "with mlflow.start_run(run_name='outer'):\n"
        "    mlflow.projects.run(os.environ['PROJECT'], env_manager='local',"
        " parameters={'C': 0.5})\n"
    )
    run_script(script, bin_, life, "caller's run")
    outer, inner = recorded(life)
    assert outer.name == "outer" and outer.metrics == {}
    assert inner.tags["mlflow.parentRunId"] == outer.id
    assert inner.status == outer.status == "FINISHED"
    assert inner.params["model_options.C"] == "0.5" and METRICS <= set(inner.metrics)


def test_the_wheel_records_where_it_is_run(life, bin_, kedro, tmp_path):
    kedro("package", cwd=life)
    (wheel,) = (life / "dist").glob("*.whl")
    away = tmp_path / "away"
    (away / "site").mkdir(parents=True)
    install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target")
    run(*install, away / "site", wheel, cwd=away)
    run("tar", "-xzf", *(life / "dist").glob("conf-*.tar.gz"), "-C", away, cwd=away)
    raw = away / "data" / "01_raw"
    raw.mkdir(parents=True)
    (raw / "iris.csv").write_bytes((life / "data" / "01_raw" / "iris.csv").read_bytes())
    module = (bin_ / "python", "-m", PACKAGE, "--conf-source=conf")
    run(*module, cwd=away, PYTHONPATH=str(away / "site"))
    (one,) = recorded(away)
    assert one.status == "FINISHED" and one.experiment == PACKAGE
    assert recorded(life) == []


@pytest.mark.parametrize("number", ["1e-2", ".5", "1", "1.0", "0.50"])
def test_mlflow_run_accepts_any_spelling_of_a_number(number, life, bin_):
    words, env = command("mlflow run", bin_, life)
    run(*words, "-P", f"C={number}", cwd=life, **env)
    (one,) = recorded(life)
    assert one.params["C"] == number
    assert float(one.params["model_options.C"]) == float(number)
    assert one.status == "FINISHED"
