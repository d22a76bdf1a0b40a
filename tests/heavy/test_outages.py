"""What config.sh exports lets calls outlive a tracking server that is away."""

import re
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from runs import free_port, path_of, start, tracking_server

CLIENT = """
import sys, time
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run("0")
for step in range(1000):
    started = time.monotonic()
    client.log_metric(run.info.run_id, "step", step, step=step)
    waited = time.monotonic() - started
    print(f"{waited:.1f}", flush=True)
    if waited > 5:
        break
    time.sleep(0.2)
client.set_terminated(run.info.run_id)
"""


def sourced(bin_: Path, project: Path, script: Path, url: str, output):
    """Start a script after config.sh was sourced, with a tracking server's address."""
    words = f"source '{project}/config.sh' && exec python '{script}'"
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": url}
    return start("bash", "-c", words, cwd=project, output=output, **env)


def test_calls_outlive_a_server_that_is_away_for_half_a_minute(
    generated, bin_, tmp_path
):
    port, client, log = free_port(), tmp_path / "client.py", tmp_path / "client.log"
    client.write_text(CLIENT)
    begun = time.monotonic()
    with tracking_server(bin_, tmp_path, port) as (url, _), log.open("w") as output:
        start_takes = time.monotonic() - begun
        process = sourced(bin_, generated, client, url, output)
        while len(log.read_text().splitlines()) < 4:  # what config.sh says, three calls
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    stopped = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(max(20, 30 - start_takes))
    with tracking_server(bin_, tmp_path, port):
        away = time.monotonic() - stopped
        status = process.wait(90)
    if away > 55:
        pytest.skip(f"this machine is too slow: its server was away for {away:.0f} s")
    assert status == 0, log.read_text()
    waited = max(map(float, re.findall(r"^[\d.]+$", log.read_text(), re.MULTILINE)))
    assert 20 < away and 20 < waited < 70, (away, waited)
    with sqlite3.connect(tmp_path / "server.db") as db:
        assert db.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]


def test_a_dead_server_costs_a_call_a_minute(generated, bin_, tmp_path):
    client, log = tmp_path / "client.py", tmp_path / "client.log"
    client.write_text(CLIENT)
    started = time.monotonic()
    with log.open("w") as output:
        url = f"http://127.0.0.1:{free_port()}"
        assert sourced(bin_, generated, client, url, output).wait(120) == 1
    assert 55 < time.monotonic() - started < 90
    assert "Max retries exceeded" in log.read_text()
