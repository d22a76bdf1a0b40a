"""The check of the environment asks a real PostgreSQL."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from machine import Machine, closed_port, silent_port


@pytest.fixture
def machine(tmp_path, generated) -> Machine:
    return Machine(tmp_path, generated)


def postgres(program: str) -> str:
    """Return the path of a program of PostgreSQL, which Debian puts beside no other."""
    places = [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    return shutil.which(program, path=os.pathsep.join(places)) or pytest.skip(
        "no PostgreSQL: apt-get install postgresql"
    )


@pytest.fixture
def database():
    """Return addresses of a real PostgreSQL, by what is wrong with them."""
    initdb, server = postgres("initdb"), postgres("postgres")
    own = Path(tempfile.mkdtemp())  # another user cannot reach pytest's own folder
    (own / "password").write_text("s3cret")
    user = []
    if os.geteuid() == 0:  # PostgreSQL refuses root
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        shutil.chown(own, 65534, 65534)
        shutil.chown(own / "password", 65534, 65534)
    data, port = own / "data", closed_port()
    make = ["-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={own}/password"]
    subprocess.run([*user, initdb, *make, "--no-sync"], check=True, capture_output=True)
    running = subprocess.Popen(
        [*user, server, "-D", data, "-p", str(port), "-k", "", "-h", "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        start, here = "postgresql+psycopg2://me:", f"127.0.0.1:{port}"
        yield {
            "": f"{start}s3cret@{here}/postgres",
            'database "nowhere" does not exist': f"{start}s3cret@{here}/nowhere",
            "password authentication failed": f"{start}s3c/ret@{here}/postgres",
            "Connection refused": f"{start}s3cret@127.0.0.1:{closed_port()}/postgres",
        }
    finally:
        running.terminate()
        running.wait(20)
        shutil.rmtree(own)


def test_postgresql(machine, database, tmp_path):
    driver = ["pip", "install", "--quiet", f"--target={tmp_path}/driver"]
    subprocess.run([sys.executable, "-m", *driver, "psycopg2-binary"], check=True)
    path = {"PYTHONPATH": f"{tmp_path}/driver"}
    for wrong, uri in database.items():
        status = int(bool(wrong))
        machine.check_with_mlflow(expect=status, MLFLOW_TRACKING_URI=uri, **path)
        line = machine.line("tracking")
        assert line.startswith("FAIL" if wrong else "ok") and wrong in line
        assert line.endswith("MLFLOW_TRACKING_URI" if wrong else " answers")
        assert "s3c" not in machine.output and "ret@" not in machine.output
    with silent_port() as port:
        started, uri = time.monotonic(), f"postgresql+psycopg2://127.0.0.1:{port}/db"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri, **path)
    assert "timeout expired" in machine.line("tracking")
    assert time.monotonic() - started < 30
