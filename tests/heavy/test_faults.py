"""What the store says of a run is what happened, whatever fails meanwhile."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import LIMIT, NEXT, Bench
from runs import (
    PACKAGE,
    check_all_succeed,
    command,
    free_port,
    path_of,
    recorded,
    run,
    showing,
    start,
    start_eight,
    tracking_server,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, generated, bin_, empty_store):
    """Return a bench for whole runs against a server that fails."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(empty_store, folder / "server.db")
    with tracking_server(bin_, folder, port := free_port()):
        yield Bench(folder, generated, bin_, port)


# A part of what `make faults` does. Where: a request, or 0 for the first to 1 for the
# last of those that can be broken in this way.
SAMPLE = [
    ("kedro run", "503", 0),
    ("kedro run", "503", 1),
    ("kedro run", "401", 1),
    ("kedro run", "401", "POST runs/log-batch #2"),
    ("kedro run", "413", 1),
    ("kedro run", "lost", "POST runs/create #1"),
    ("kedro run", "late", "POST runs/create #1"),
    ("kedro run", "afterwards", "POST runs/create #1"),
    ("kedro run", "lost", "POST model-versions/create #1"),
    ("kedro run", "stall", 1),
    ("kedro run", "gone", 0.5),
    ("score", "dropped", 0.5),
    ("score", "stall", 1),
    ("tune", "lost", "POST runs/create #2"),
    ("tune", "late", "POST runs/create #2"),
    ("tune", "gone", "POST runs/update #1"),
    ("a node raises", "gone", 1),
    ("a node raises", "401", 0.8),
    ("mlflow run", "503", 0.95),
    ("mlflow run", "401", 1),
    ("mlflow run", "dropped", 0.1),
]


@pytest.mark.parametrize("scenario, fault, where", SAMPLE)
def test_one_request_fails_once(scenario, fault, where, bench):
    able = [r for r, faults in bench.faults(scenario).items() if fault in faults]
    request = where if isinstance(where, str) else able[int(where * (len(able) - 1))]
    case, log = bench.run(scenario, request, fault)
    assert not case.lies, f"{case}\n{log[-6000:]}"


GOOD = [("kedro run", "dead", "quality.png"), ("a node raises", "hung", "traceback")]


@pytest.mark.parametrize("scenario, fault, file", GOOD)
def test_a_server_that_fails_for_good_at_the_end(scenario, fault, file, bench):
    (request,) = (r for r in bench.faults(scenario) if file in r)
    case, log = bench.run(scenario, request, fault)
    assert not case.lies, f"{case}\n{log[-6000:]}"


def test_ctrl_c_while_a_failure_is_recorded(bench):
    (request,) = (r for r in bench.faults("a node raises") if "traceback" in r)
    case, log = bench.run("a node raises", request, "dead", INTERRUPT="1")
    assert case.afterwards == "FAILED" and not case.lies, f"{case}\n{log[-6000:]}"


def test_a_server_that_is_dead_at_the_end_of_mlflow_run(bench):
    *_, request = (r for r in bench.faults("mlflow run") if "quality.png" in r)
    hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}  # MLflow's own: four minutes
    case, log = bench.run("mlflow run", request, "dead", **hurry)
    assert case.status == "RUNNING" and case.afterwards == "FINISHED", log[-6000:]
    assert not case.lies, f"{case}\n{log[-6000:]}"


# Put at the head of train_model: it waits for the test, and does what it asks.
HOLD = """
    import os, pathlib, time
    signs = pathlib.Path(os.environ["SIGNS"])
    (signs / "ready").touch()
    while not (signs / "go").exists():
        time.sleep(0.1)
    if "RAISE" in os.environ:
        raise ValueError("boom")
"""


class Held:
    """A pipeline that waits in its second node until it is told to go on."""

    def __init__(self, signs: Path, *words, cwd: Path, **env: str) -> None:
        signs.mkdir()
        self.signs, self.log = signs, signs / "log"
        options = {"SIGNS": str(signs), "COLUMNS": "300", **env}
        with self.log.open("w") as output:
            self.process = start(*words, cwd=cwd, output=output, **options)
        self.wait_for((signs / "ready").exists)

    def wait_for(self, condition) -> None:
        """Return when something is so; fail after two minutes."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def go_on(self) -> None:
        (self.signs / "go").touch()

    def says(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text()) is not None

    def all_ended(self) -> bool:
        """Tell whether no process of it is left, its orphans included."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def holding(project: Path) -> Path:
    """Have train_model of a project wait."""
    nodes = project / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = make_pipeline(")
    assert mark
    nodes.write_text(head + HOLD.lstrip("\n") + mark + tail)
    return project


@pytest.fixture
def held(project, empty_store):
    """Return a project with a store of its own whose train_model waits."""
    shutil.copy(empty_store, project / "mlflow.db")
    return holding(project)


def next_start(bin_: Path, project: Path, **env: str) -> None:
    """Start the next run in the folder."""
    run(bin_ / NEXT[0], *NEXT[1:], cwd=project, PATH=path_of(bin_), **env)


END_IS_OWED = "RUNNING|could not be told"  # what the log says then


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("then, status", [({}, "FINISHED"), ({"RAISE": "1"}, "FAILED")])
def test_mlflow_run_is_killed_and_kedro_goes_on(
    end, then, status, held, bin_, tmp_path
):
    words, env = command("mlflow run", bin_, held)
    pipeline = Held(tmp_path / "signs", *words, cwd=held, **env, **then)
    pipeline.process.send_signal(signal.Signals[end])
    pipeline.process.wait(30)
    pipeline.go_on()
    pipeline.wait_for(pipeline.all_ended)
    next_start(bin_, held)
    one, _ = recorded(held)
    assert one.status == status, pipeline.log.read_text()


@pytest.fixture
def container():
    """Return the words before a command that give it processes of its own."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--uts"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"]).returncode:
        pytest.skip("this machine allows no containers (unshare)")
    return words


def test_two_containers_with_one_name(container, held, bin_, tmp_path):
    words, env = command("sequential", bin_, held)
    pipeline = Held(tmp_path / "signs", *container, *words, cwd=held, **env)
    other = (*container, bin_ / NEXT[0], *NEXT[1:])
    run(*other, cwd=held, **env)
    assert [one.status for one in recorded(held)] == ["RUNNING", "FINISHED"]
    os.killpg(pipeline.process.pid, signal.SIGKILL)
    pipeline.wait_for(pipeline.all_ended)
    run(*other, cwd=held, **env)
    assert [one.status for one in recorded(held)] == ["KILLED", "FINISHED", "FINISHED"]


@contextmanager
def small_disk(folder: Path, size: str):
    """Mount a small disk at a folder; skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words).returncode:
        pytest.skip("this machine allows no small disks (mount)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk but for some bytes; return the file that can be removed."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
    return filler


def test_a_node_raises_while_the_disk_is_full(held, bin_, tmp_path):
    with small_disk(tmp_path / "disk", "16m") as disk:
        project = shutil.copytree(held, disk / held.name)
        words, env = command("sequential", bin_, project)
        pipeline = Held(tmp_path / "signs", *words, cwd=project, **env, RAISE="1")
        filler = fill(disk)
        pipeline.go_on()
        pipeline.wait_for(lambda: pipeline.says(f"{END_IS_OWED}|is full"))
        filler.unlink()
        assert pipeline.process.wait(LIMIT) == 1
        assert pipeline.says("ValueError: boom")
        assert recorded(project)[0].status != "FINISHED"
        next_start(bin_, project)
        assert recorded(project)[0].status == "FAILED", pipeline.log.read_text()


def test_the_artifacts_have_no_room(held, bin_, tmp_path):
    with small_disk(held / "mlruns", "1m") as disk:
        words, env = command("sequential", bin_, held)
        pipeline = Held(tmp_path / "signs", *words, cwd=held, **env)
        fill(disk)
        pipeline.go_on()
        assert pipeline.process.wait(LIMIT) == 1
        (one,) = recorded(held)
        assert one.status == "FAILED" and "No space" in one.tags["failure.error"]
        assert pipeline.says("traceback.txt|its failure")


@pytest.mark.parametrize("leave", [0, 300_000], ids=["full", "nearly full"])
def test_a_disk_that_is_full_at_the_start(leave, project, bin_, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        full = shutil.copytree(project, disk / project.name)
        filler = fill(disk, leave)
        kedro = (bin_ / NEXT[0], *NEXT[1:])
        result = run(*kedro, cwd=full, ok=False, PATH=path_of(bin_))
        assert result.returncode == 1
        *_, last = result.stderr.strip().splitlines()
        assert last.startswith("Error: MLflow cannot record runs")
        assert "Traceback" not in result.stderr
        assert not list((full / "data" / "02_intermediate").glob("*.parquet"))
        filler.unlink()
        result = run(*kedro, cwd=full, ok=False, PATH=path_of(bin_))
        if result.returncode:
            *_, last = result.stderr.strip().splitlines()
            (store,) = re.findall(r"move (\S+) away", last) or [pytest.fail(last)]
            Path(store).unlink()
            run(*kedro, cwd=full, PATH=path_of(bin_))


class Postgres:
    """Debian's PostgreSQL with a cluster of its own, on a port of this machine."""

    USER, PASSWORD = "aurelia", "swordfish"

    def __init__(self, folder: Path, bin_: Path) -> None:
        self._folder, self._bin, self.port = folder, bin_, free_port()
        self._drop: tuple[str, ...] = ()
        if os.getuid() == 0:  # which PostgreSQL refuses
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
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
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
    postgres, database, held, bin_, tmp_path
):
    store = {"MLFLOW_TRACKING_URI": postgres.uri(database)}
    words, env = command("sequential", bin_, held)
    env |= store | {"RAISE": "1"}
    pipeline = Held(tmp_path / "signs", *words, cwd=held, **env)
    postgres.stop()
    pipeline.go_on()
    pipeline.wait_for(lambda: pipeline.says(END_IS_OWED))
    pipeline.process.send_signal(signal.SIGSTOP)  # the database comes back just then
    postgres.start()
    pipeline.process.send_signal(signal.SIGCONT)
    assert pipeline.process.wait(LIMIT) == 1
    statuses = "SELECT status FROM runs ORDER BY start_time"
    assert postgres.ask(statuses, database) != ["FINISHED"]
    next_start(bin_, held, **store)
    assert postgres.ask(statuses, database) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize("wrong", ["database", "host", "port", "password", "slash"])
def test_a_database_that_refuses(wrong, postgres, database, project, bin_):
    uri = {
        "database": postgres.uri("no_such_database"),
        "host": postgres.uri(database).replace("127.0.0.1", "db.invalid"),
        "port": postgres.uri(database).replace(f":{postgres.port}", f":{free_port()}"),
        "password": postgres.uri(database).replace("swordfish", "catfish"),
        "slash": postgres.uri(database).replace("swordfish", "sword/fish"),
    }[wrong]
    kedro = (bin_ / "kedro", "run")
    began = time.monotonic()
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": uri, "COLUMNS": "300"}
    result = run(*kedro, cwd=project, ok=False, **env)
    assert time.monotonic() - began < 30
    assert result.returncode == 1 and "Traceback" not in result.stderr
    said = result.stdout + result.stderr
    assert not re.search("swordfish|catfish|sword/fish|aurelia:", said)
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs at postgresql+psycopg2://")


def test_sixteen_at_once_meet_a_fresh_database(
    postgres, database, generated, bin_, tmp_path
):
    uri, copies = postgres.uri(database), tmp_path / "copies"
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": uri}
    env["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
    options = {"project": generated, "folder": copies, **env}
    started = start_eight(bin_ / "kedro", "run", **options)
    # `mlflow run` makes tables and experiment itself, without a lock.
    while not list(copies.glob("*/.runs/*.db")):
        assert any(process.poll() is None for process, _ in started)
        time.sleep(0.1)
    words = (bin_ / "mlflow", "run", ".", "--env-manager=local")
    started += start_eight(*words, **options)
    check_all_succeed(started)
    statuses = "SELECT status FROM runs WHERE lifecycle_stage = 'active'"
    assert postgres.ask(statuses, database) == ["FINISHED"] * 16
    versions = "SELECT count(DISTINCT run_id) FROM model_versions"
    assert postgres.ask(versions, database) == ["16"]
    (tmp_path / "dump").write_text(postgres.dump(database))
    assert not showing(postgres.USER, postgres.PASSWORD, tmp_path)


def test_where_the_artifacts_of_a_database_go(
    postgres, database, project, bin_, tmp_path
):
    env = {"PATH": path_of(bin_), "COLUMNS": "400"}
    env["MLFLOW_TRACKING_URI"] = postgres.uri(database)
    colleague = shutil.copytree(project, tmp_path / "colleague")
    for folder in (project, colleague):
        result = run(bin_ / NEXT[0], *NEXT[1:], cwd=folder, **env)
        (warned,) = re.findall(r"Artifacts of.*", result.stdout + result.stderr)
        assert str(project / "mlruns") in warned and "artifact_location" in warned
    chosen = tmp_path / "seen by all"
    config = colleague / "conf" / "base" / "mlflow.yml"
    config.write_text(f"{config.read_text()}\nartifact_location: {chosen}\n")
    env["MLFLOW_EXPERIMENT_NAME"] = "another"
    result = run(bin_ / NEXT[0], *NEXT[1:], cwd=colleague, **env)
    assert "Artifacts of" not in result.stdout + result.stderr
    assert any(chosen.rglob("iris.csv"))
