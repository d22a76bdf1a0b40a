"""A PostgreSQL database as the tracking store, which refuses or is stopped."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from faults import LIMIT, NEXT
from harness import check_all_succeed, start_eight
from paused import STATUS_IS_PENDING, PausedRun, next_start
from runs import (
    PACKAGE,
    command,
    free_port,
    path_of,
    run,
    showing,
    start,
)


class Postgres:
    """Debian's PostgreSQL with a cluster of its own, on a port of this machine."""

    USER, PASSWORD = "aurelia", "swordfish"

    def __init__(self, folder: Path, bin_: Path) -> None:
        self._folder, self._bin, self.port = folder, bin_, free_port()
        self._drop: tuple[str, ...] = ()
        if os.getuid() == 0:  # which PostgreSQL refuses
            if not shutil.which("setpriv"):
                pytest.skip("no setpriv: apt-get install util-linux")
            shutil.chown(folder, "postgres")
            self._drop = ("setpriv", "--reuid=postgres", "--clear-groups")
        (folder / "password").write_text(self.PASSWORD)
        words = [f"--username={self.USER}", f"--pwfile={folder / 'password'}"]
        words += ["--auth=scram-sha-256", "--no-sync", f"--pgdata={folder / 'data'}"]
        run(*self._drop, bin_ / "initdb", *words, cwd=folder)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-D", self._folder / "data", "-p", self.port, "-k", self._folder]
        words += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self._process = start(
            *self._drop, self._bin / "postgres", *words, cwd=self._folder
        )
        ready = [self._bin / "pg_isready", "-q", "-h127.0.0.1", f"-p{self.port}"]
        while subprocess.run(ready).returncode:
            assert self._process.poll() is None
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it as an administrator would, who does not wait for clients."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def ask(self, query: str, database: str = "postgres") -> list[str]:
        """Return the lines that a query answers."""
        return self._tell(database, "psql", "-Atc", query).splitlines()

    def dump(self, database: str) -> str:
        """Return all that a database holds."""
        return self._tell(database, "pg_dump")

    def _tell(self, database: str, tool: str, *words: str) -> str:
        place = ["-h127.0.0.1", f"-p{self.port}", f"-U{self.USER}", database]
        command = (self._bin / tool, *words, *place)
        return run(*command, cwd=self._folder, PGPASSWORD=self.PASSWORD).stdout

    def uri(self, database: str) -> str:
        """Return the address of a database for MLflow."""
        place = f"{self.USER}:{self.PASSWORD}@127.0.0.1:{self.port}"
        return f"postgresql+psycopg2://{place}/{database}"


@pytest.fixture(scope="module")
def postgres():
    """Return a PostgreSQL server, if this machine has Debian's."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder:  # where its user may go
        server = Postgres(Path(folder), installed[-1].parent)
        yield server
        server.stop()


@pytest.fixture
def database(postgres) -> str:
    """Return the name of a database that holds nothing yet."""
    name = f"mlflow_{time.time_ns()}"
    postgres.ask(f"CREATE DATABASE {name}")
    return name


def test_a_node_raises_while_the_database_is_stopped(
    postgres, database, pausing_project, bin_, tmp_path
):
    store = {"MLFLOW_TRACKING_URI": postgres.uri(database)}
    words, env = command("sequential", bin_, pausing_project)
    env |= store | {"RAISE": "1"}
    pipeline = PausedRun(tmp_path / "signs", *words, cwd=pausing_project, **env)
    postgres.stop()
    pipeline.go_on()
    pipeline.wait_for(lambda: pipeline.says(STATUS_IS_PENDING))
    pipeline.process.send_signal(signal.SIGSTOP)  # the database comes back just then
    postgres.start()
    pipeline.process.send_signal(signal.SIGCONT)
    assert pipeline.process.wait(LIMIT) == 1
    statuses = "SELECT status FROM runs ORDER BY start_time"
    assert postgres.ask(statuses, database) != ["FINISHED"]
    next_start(bin_, pausing_project, **store)
    assert postgres.ask(statuses, database) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize("wrong", ["database", "host", "port", "password", "slash"])
def test_a_database_that_refuses(wrong, postgres, database, project, kedro):
    uri = {
        "database": postgres.uri("no_such_database"),
        "host": postgres.uri(database).replace("127.0.0.1", "db.invalid"),
        "port": postgres.uri(database).replace(f":{postgres.port}", f":{free_port()}"),
        "password": postgres.uri(database).replace("swordfish", "catfish"),
        "slash": postgres.uri(database).replace("swordfish", "sword/fish"),
    }[wrong]
    began = time.monotonic()
    result = kedro("run", ok=False, MLFLOW_TRACKING_URI=uri, COLUMNS="300")
    assert time.monotonic() - began < 30
    assert result.returncode == 1 and "Traceback" not in result.stderr
    said = result.stdout + result.stderr
    assert not re.search("swordfish|catfish|sword/fish|aurelia:", said)
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs at postgresql+psycopg2://")


def test_sixteen_at_once_meet_a_fresh_database(
    postgres, database, generated, fork, bin_, tmp_path
):
    uri, copies = postgres.uri(database), tmp_path / "copies"
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": uri}
    env["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
    options = {"project": generated, "folder": copies, **env}
    started = start_eight(fork, bin_ / "kedro", "run", **options)
    # `mlflow run` makes tables and experiment itself, without a lock.
    while not list(copies.glob("*/.runs/*.db")):
        assert all(process.poll() is None for process, _ in started)
        time.sleep(0.1)
    words = (bin_ / "mlflow", "run", ".", "--env-manager=local")
    started += start_eight(fork, *words, **options)
    check_all_succeed(started)
    statuses = "SELECT status FROM runs WHERE lifecycle_stage = 'active'"
    assert postgres.ask(statuses, database) == ["FINISHED"] * 16
    versions = "SELECT count(DISTINCT run_id) FROM model_versions"
    assert postgres.ask(versions, database) == ["16"]
    (tmp_path / "dump").write_text(postgres.dump(database))
    assert not showing(postgres.USER, postgres.PASSWORD, tmp_path)


def test_where_the_artifacts_of_a_database_go(
    postgres, database, project, kedro, tmp_path
):
    env = {"COLUMNS": "400", "MLFLOW_TRACKING_URI": postgres.uri(database)}
    colleague = shutil.copytree(project, tmp_path / "colleague")
    for folder in (project, colleague):
        result = kedro(*NEXT[1:], cwd=folder, **env)
        (warned,) = re.findall(r"Artifacts of.*", result.stdout + result.stderr)
        assert str(project / "mlruns") in warned and "artifact_location" in warned
    chosen = tmp_path / "seen by all"
    config = colleague / "conf" / "base" / "mlflow.yml"
    config.write_text(f"{config.read_text()}\nartifact_location: {chosen}\n")
    env["MLFLOW_EXPERIMENT_NAME"] = "another"
    result = kedro(*NEXT[1:], cwd=colleague, **env)
    assert "Artifacts of" not in result.stdout + result.stderr
    assert any(chosen.rglob("iris.csv"))
