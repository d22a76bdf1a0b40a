"""A tracking server that never answers, or dies in the middle of a run."""

import os
import shutil
import socket
import subprocess
import time

import pytest
from runs import (
    METRICS,
    PACKAGE,
    free_port,
    path_of,
    recorded,
    start,
    tracking_server,
)


@pytest.mark.parametrize("sourced", [False, True], ids=["", "after config.sh"])
def test_a_server_that_never_answers_is_given_up(kedro, project, sourced):
    name, value = "MLFLOW_HTTP_REQUEST_TIMEOUT", "60"
    changes = {name: value, f"KEDRO_{name}": value} if sourced else {}
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        changes["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = kedro("run", cwd=project, ok=False, **changes)
    assert time.monotonic() - began < 40  # 25 s on a quiet machine
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert not (project / "data" / "02_intermediate" / "train.parquet").exists()
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs")


@pytest.fixture
def server(bin_, tmp_path, empty_store):
    """Start an MLflow tracking server; give its address and its process."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "server.db")
    with tracking_server(bin_, folder, free_port()) as found:
        yield found


def test_a_server_that_dies_in_the_middle_costs_no_output(
    kedro, project_with_store, server, bin_
):
    url, process = server
    data = project_with_store / "data"
    nodes = project_with_store / "src" / PACKAGE / "pipelines/data_science/nodes.py"
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
        "READY": str(data / "ready"),
        "GONE": str(data / "gone"),
        "PATH": path_of(bin_),
    }
    words = (bin_ / "kedro", "run")
    started = start(*words, cwd=project_with_store, output=subprocess.PIPE, **env)
    while not (data / "ready").exists():
        assert started.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, 9)
    process.wait()
    (data / "gone").touch()
    output, _ = started.communicate(timeout=240)
    assert started.returncode != 0
    assert (data / "06_models" / "model.pkl").exists()
    flat = " ".join(output.split())
    assert "--from-nodes" in flat and "MLflow could not be told that run" in flat
    del env["BEHAVIOUR"], env["MLFLOW_TRACKING_URI"]
    kedro("run", "--from-nodes=log_model,predict", cwd=project_with_store)
    (one,) = recorded(project_with_store)
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)
