"""Where runs go, and what happens when they cannot: real stores and servers."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from runs import (
    AUTHOR,
    METRICS,
    PACKAGE,
    SESSION,
    check_all_succeed,
    command,
    free_port,
    path_of,
    recorded,
    run,
    run_script,
    serving,
    start,
    start_eight,
    tracking_server,
)


@pytest.fixture
def server(bin_, tmp_path, empty_store):
    """Start an MLflow tracking server; give its address and its process."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "server.db")
    with tracking_server(bin_, folder, free_port()) as found:
        yield found


def fails_at_once(kedro, project, uri: str, **changes: str) -> str:
    """Run where tracking cannot work; return the one line that says what to do."""
    kedro("registry", "list", cwd=project)  # warm the disk's cache, not the network's
    start = time.monotonic()
    result = kedro(
        "run", cwd=project, ok=False, **{"MLFLOW_TRACKING_URI": uri, **changes}
    )
    assert result.returncode == 1
    assert time.monotonic() - start < 40  # 25 s on a quiet machine if it never answers
    assert not (project / "data" / "02_intermediate" / "train.parquet").exists()
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in result.stderr
    return last


def test_a_server_that_is_down(kedro, project):
    line = fails_at_once(kedro, project, f"http://127.0.0.1:{free_port()}")
    assert "MLflow cannot record runs at http://127.0.0.1" in line
    assert "MLFLOW_TRACKING_URI" in line


@pytest.mark.parametrize("sourced", [False, True], ids=["", "after config.sh"])
def test_a_server_that_hangs(kedro, project, sourced):
    name, value = "MLFLOW_HTTP_REQUEST_TIMEOUT", "60"
    changes = {name: value, f"KEDRO_{name}": value} if sourced else {}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        line = fails_at_once(kedro, project, f"http://127.0.0.1:{port}", **changes)
    assert "MLflow cannot record runs" in line


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused(kedro, project, status):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status, "no entry")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        uri = f"http://somebody:secret@127.0.0.1:{refusing.server_port}"
        line = fails_at_once(kedro, project, uri)
        refusing.shutdown()
    assert str(status) in line and "secret" not in line


@pytest.mark.parametrize(
    "uri", ["htp://nowhere", "postgresql+psycopg2://me:secret@127.0.0.1:9/db"]
)
def test_addresses_that_lead_nowhere(kedro, project, uri):
    line = fails_at_once(kedro, project, uri)
    assert "MLflow cannot record runs" in line and "secret" not in line


def test_a_file_that_is_no_database(kedro, project):
    (project / "mlflow.db").write_text("not a database, but long enough to be read" * 9)
    line = fails_at_once(kedro, project, "")
    assert "MLflow cannot record runs" in line and "mlflow.db" in line


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing")
def test_a_folder_that_is_read_only(bin_, project):
    if os.getuid() != 0:
        project.chmod(0o500)
        drop = ()
    else:  # root may write anywhere: run as nobody
        drop = ("setpriv", "--reuid=65534", "--clear-groups")
        probe = subprocess.run([*drop, "test", "-x", str(bin_ / "kedro")])
        if probe.returncode:
            pytest.skip("another user cannot reach the test's environment")
    result = run(
        *drop, bin_ / "kedro", "run", cwd=project, ok=False, HOME="/nonexistent"
    )
    project.chmod(0o700)
    assert result.returncode == 1
    assert "MLflow cannot record runs" in result.stderr.strip().splitlines()[-1]


def test_an_experiment_that_was_deleted(kedro, life, bin_):
    uri = f"sqlite:///{life / 'mlflow.db'}"
    kedro("run", "--pipelines=data_engineering", cwd=life)
    delete = (bin_ / "mlflow", "experiments", "delete", "-x", "1")
    run(*delete, cwd=life, MLFLOW_TRACKING_URI=uri)
    result = kedro("run", cwd=life, ok=False)
    assert result.returncode == 1
    assert "mlflow experiments restore -x 1" in result.stderr.strip().splitlines()[-1]
    restore = (bin_ / "mlflow", "experiments", "restore", "-x", "1")
    run(*restore, cwd=life, MLFLOW_TRACKING_URI=uri)
    kedro("run", "--pipelines=data_engineering", cwd=life)


def test_the_address_does_not_depend_on_the_directory(bin_, life, tmp_path):
    script = (
        "import os, mlflow\n"
        "from kedro.framework.session import KedroSession\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "bootstrap_project(os.environ['PROJECT'])\n"
        "with KedroSession.create(os.environ['PROJECT']) as s:\n"
        "    s.run(pipeline_names=['data_engineering'])\n"
        "print(mlflow.get_tracking_uri())\n"
    )
    _, env = command("session", bin_, life)
    run(bin_ / "python", "-c", script, cwd=tmp_path, **env)
    assert len(recorded(life)) == 1 and not (tmp_path / "mlflow.db").exists()
    other = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'other.db'}"}
    shutil.copy(life / "mlflow.db", tmp_path / "other.db")
    run(bin_ / "python", "-c", script, cwd=tmp_path, **env, **other)
    assert len(recorded(life)) == 1 and len(recorded(tmp_path, "other.db")) == 2


def test_an_environment_of_the_project_can_name_another_store(kedro, life):
    local = life / "conf" / "local" / "mlflow.yml"
    local.write_text("tracking_uri: sqlite:///of_my_own.db\nexperiment_name: mine\n")
    shutil.copy(life / "mlflow.db", life / "of_my_own.db")
    kedro("run", "--pipelines=data_engineering", cwd=life)
    (one,) = recorded(life, "of_my_own.db")
    assert one.experiment == "mine" and recorded(life) == []


def test_a_server_records_everything(kedro, life, server):
    url, _ = server
    kedro("run", cwd=life, MLFLOW_TRACKING_URI=url)
    (one,) = recorded(life.parent / "server", "server.db")
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)
    saved = {p.name for p in (life.parent / "server" / "artifacts").rglob("*")}
    assert {"iris.csv", "confusion_matrix.png", "model.skops"} <= saved


def test_a_server_that_dies_in_the_middle_costs_no_output(kedro, life, server, bin_):
    url, process = server
    nodes = life / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    wait = 'case "wait":\n            pathlib.Path(os.environ["READY"]).touch()\n'
    gone = "            while not pathlib.Path(os.environ['GONE']).exists(): pass\n"
    text = nodes.read_text().replace("            time.sleep(90)\n", gone)
    assert gone in text and wait in text
    nodes.write_text(text)
    env = {
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "BEHAVIOUR": "wait",
        "READY": str(life / "data" / "ready"),
        "GONE": str(life / "data" / "gone"),
        "PATH": path_of(bin_),
    }
    started = start(*(bin_ / "kedro", "run"), cwd=life, output=subprocess.PIPE, **env)
    while not (life / "data" / "ready").exists():
        assert started.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, 9)
    process.wait()
    (life / "data" / "gone").touch()
    output, _ = started.communicate(timeout=240)
    assert started.returncode != 0
    assert (life / "data" / "06_models" / "model.pkl").exists()
    flat = " ".join(output.split())
    assert "--from-nodes" in flat and "MLflow could not be told that run" in flat
    del env["BEHAVIOUR"], env["MLFLOW_TRACKING_URI"]
    kedro("run", "--from-nodes=log_model,predict", cwd=life)
    (one,) = recorded(life)
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh store", "existing store"])
def test_sixteen_runs_at_once(fresh, life, bin_):
    if fresh:
        (life / "mlflow.db").unlink()
    words, env = command("sequential", bin_, life)
    words = [*words, "--pipelines=data_engineering"]
    started = [start(*words, cwd=life, **env) for _ in range(16)]
    assert [process.wait(300) for process in started] == [0] * 16
    runs = recorded(life)
    assert len(runs) == 16
    assert {(one.status, one.experiment) for one in runs} == {("FINISHED", PACKAGE)}


def test_eight_mlflow_runs_at_once_on_an_existing_store(life, bin_, tmp_path):
    env = {"PATH": path_of(bin_)}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{life / 'mlflow.db'}"
    launcher = (bin_ / "mlflow", "run", ".", "--env-manager=local")
    # Each in a folder of its own: they share no data/.
    check_all_succeed(start_eight(*launcher, project=life, folder=tmp_path, **env))
    assert [one.status for one in recorded(life)] == ["FINISHED"] * 8


PARAMETERS = {
    "long": "x" * 20_000,
    "many": {f"p{i}": i for i in range(150)},
    "odd / name: (ü)": 1,
    "..": 2,
    "nested": [[1, 2], {"a": [3]}],
    "none": None,
    "empty": {},
    "a.b": 1,
    "a": {"b": 2},
    "deep": {"k" * 300: 1},
    "service": {"password": "hunter2", "api_key": "hunter2"},
}


def test_parameters_of_any_shape_are_logged(kedro, life):
    odd = life / "conf" / "base" / "parameters_odd.yml"
    odd.write_text(json.dumps(PARAMETERS, ensure_ascii=False))
    pipeline = life / "src" / PACKAGE / "pipelines/data_engineering/pipeline.py"
    node = '        Node(func=len, inputs="parameters", outputs="count"),\n        ]\n'
    head, mark, tail = pipeline.read_text().partition("        ]\n")
    assert mark
    pipeline.write_text(head + node + tail)
    kedro("run", "--pipelines=data_engineering", cwd=life)
    (one,) = recorded(life)
    assert one.status == "FINISHED"
    assert one.params["many.p149"] == "149" and len(one.params) > 160
    assert one.params["nested"] == "[[1, 2], {'a': [3]}]"
    assert one.params["none"] == "None" and one.params["empty"] == "{}"
    assert len(one.params["long"]) == 6000
    assert sorted(one.params[k] for k in ("a.b", "a.b_")) == ["1", "2"]
    assert "hunter2" not in (life / "mlflow.db").read_bytes().decode("latin1")


def test_a_parameter_that_the_caller_logged_is_not_overwritten(life, bin_):
    script = SESSION + (
        "with mlflow.start_run():\n"
        "    mlflow.log_param('model_options.C', '1e0')\n"
        "    mlflow.log_param('model_options.max_iter', 7)\n"
        "    session_run()\n"
    )
    run_script(script, bin_, life, "caller's run")
    (one,) = recorded(life)
    assert one.params["model_options.C"] == "1e0"
    assert one.params["model_options.max_iter"] == "7"
    (other,) = (k for k in one.params if k.startswith("model_options.max_iter."))
    assert one.params[other] == "200" and one.status == "FINISHED"


@pytest.mark.parametrize(
    "runner", ["SequentialRunner", "ThreadRunner", "ParallelRunner"]
)
def test_saved_files_that_the_catalog_names_are_artifacts(runner, kedro, life):
    catalog = life / "conf" / "base" / "catalog.yml"
    entry = "  metadata: {kedro-viz: {layer: model_output}}\n"
    named = "  versioned: true\n  metadata: {mlflow: {artifact_path: output}}\n"
    text = catalog.read_text()
    assert text.count(entry) == 1
    catalog.write_text(text.replace(entry, named))
    kedro("run", f"--runner={runner}", cwd=life)
    (one,) = recorded(life)
    assert {
        "output/predictions.parquet",
        "figures/confusion_matrix.png",
    } <= one.artifacts
    (saved,) = (life / "data" / "07_model_output" / "predictions.parquet").iterdir()
    assert saved.name == one.tags["kedro.run_id"]


def test_a_large_input_is_named_but_not_copied(kedro, life):
    catalog = life / "conf" / "base" / "catalog.yml"
    catalog.write_text(catalog.read_text().replace("max_mb: 10", "max_mb: 0.001"))
    kedro("run", "--pipelines=data_engineering", cwd=life)
    (one,) = recorded(life)
    assert "data/iris.csv" not in one.artifacts


def test_runs_name_the_commit_and_a_changed_tree(kedro, life):
    run("git", "init", "-q", cwd=life)
    run("git", "add", "-A", cwd=life)
    run("git", *AUTHOR, "commit", "-q", "-m", "First", cwd=life)
    commit = run("git", "rev-parse", "HEAD", cwd=life).stdout.strip()
    kedro("run", "--pipelines=data_engineering", cwd=life)
    (life / "README.md").write_text("changed")
    kedro("run", "--pipelines=data_engineering", cwd=life)
    runs = recorded(life)
    assert {one.tags["mlflow.source.git.commit"] for one in runs} == {commit}
    assert [one.tags["git.dirty"] for one in runs] == ["false", "true"]


def test_the_http_server_of_kedro_records_each_request(life, bin_, shared, generated):
    probe = run(bin_ / "python", "-c", "import fastapi, uvicorn", cwd=life, ok=False)
    assert probe.returncode == 0, "MLflow brings fastapi and uvicorn"
    port, log = free_port(), life.parent / "server.log"
    _, env = command("sequential", bin_, life)
    words = (bin_ / "kedro", "server", "start", "--port", port)
    with serving(*words, port=port, log=log, cwd=life, **env) as (url, _):
        for c in (0.5, 2.0):
            body = json.dumps({"params": {"model_options": {"C": c}}}).encode()
            kind = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/run", body, kind)
            assert urllib.request.urlopen(request, timeout=120).status == 200
    runs = recorded(life)
    assert [one.status for one in runs] == ["FINISHED"] * 2
    assert [one.params["model_options.C"] for one in runs] == ["0.5", "2.0"]
    assert all(METRICS <= set(one.metrics) for one in runs)


LOAD = """
import mlflow
runs = mlflow.search_runs(search_all_experiments=True, output_format='list')
run = min(runs, key=lambda run: run.info.start_time)
kept = mlflow.artifacts.load_text(run.info.artifact_uri + '/data/iris.csv')
assert kept.startswith('sepal_length')
found = mlflow.search_logged_models([run.info.experiment_id], output_format='list')
mine = (m for m in found if m.source_run_id == run.info.run_id)
model = next(m for m in mine if m.name == 'model')
print(mlflow.pyfunc.load_model(model.model_uri).metadata.signature)
"""


def artifacts_of(project) -> set[str]:
    return {str(path.relative_to(project)) for path in (project / "mlruns").rglob("*")}


def test_a_project_that_was_moved_opens_its_old_runs(kedro, life, bin_):
    kedro("run", cwd=life)
    moved = life.rename(life.parent / "moved there")
    before = artifacts_of(moved)
    again = kedro("run", "--pipelines=data_engineering", cwd=moved, COLUMNS="300")
    said = f"The store has moved here from {life}"
    assert said in again.stdout + again.stderr
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{moved / 'mlflow.db'}"}
    loaded = run(bin_ / "python", "-c", LOAD, cwd=moved, **store)
    assert "petal_width" in loaded.stdout
    assert artifacts_of(moved) > before and not life.exists()
    again = kedro("run", "--pipelines=data_engineering", cwd=moved, COLUMNS="300")
    assert "has moved" not in again.stdout + again.stderr
    assert {one.status for one in recorded(moved)} == {"FINISHED"}


def test_a_copy_writes_nothing_into_its_original(kedro, life, bin_, tmp_path):
    elsewhere = tmp_path / "chosen" / "by the owner"
    uri = f"sqlite:///{life / 'mlflow.db'}"
    create = (bin_ / "mlflow", "experiments", "create", "-n", "own", "-l", elsewhere)
    run(*create, cwd=life, MLFLOW_TRACKING_URI=uri)
    kedro("run", cwd=life)
    copy = shutil.copytree(life, tmp_path / "copy")
    before = artifacts_of(life)
    kedro("run", cwd=copy)
    kedro("run", "--pipelines=data_engineering", cwd=copy, MLFLOW_EXPERIMENT_NAME="own")
    assert artifacts_of(life) == before and len(recorded(life)) == 1
    assert len(artifacts_of(copy)) > len(before)
    assert any(elsewhere.rglob("iris.csv"))
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{copy / 'mlflow.db'}"}
    assert "petal_width" in run(bin_ / "python", "-c", LOAD, cwd=copy, **store).stdout
