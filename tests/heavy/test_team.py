"""A team's server as docs/team-server.sh starts it: PostgreSQL, users, artifacts."""

import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import ForkServer, check_all_succeed, start_eight
from paused import PausedRun, pause_training
from runs import (
    PACKAGE,
    ROOT,
    command,
    free_port,
    path_of,
    run,
    serving,
    showing,
)

USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
ADMIN = {USER: "admin", PASSWORD: "swordfish-1234"}
RITA = {USER: "rita", PASSWORD: "catfish/123456"}  # a colleague
TOM = {USER: "tom", PASSWORD: "dogfish/123456"}  # a guest, who may only read
ANN = {USER: "ann", PASSWORD: "monkfish/12345"}  # may record, but not register
MISTAKEN = {**RITA, PASSWORD: "mistaken/12345"}
# The page's own lines make Rita; these make the others.
OTHERS = f"""
client.create_user("tom", "{TOM[PASSWORD]}")
client.create_user("ann", "{ANN[PASSWORD]}")
recorders = client.create_role("default", "recorders")
client.add_role_permission(recorders.id, "experiment", "*", "EDIT")
client.assign_role("ann", recorders.id)
"""
USERS = re.search("```python\n(.*?)```", (ROOT / "docs/team.md").read_text(), re.S)


class Team:
    """The server of a team, which can be stopped and started again.

    Args:
        folder: Where it keeps everything.
        server_bin: The environment of the server.
        bin_: The environment in which its users work.
    """

    def __init__(self, folder: Path, server_bin: Path, bin_: Path) -> None:
        self._server_bin, self.bin_ = server_bin, bin_
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._running = ExitStack()

    def start(self) -> None:
        words = (ROOT / "docs" / "team-server.sh", self._folder / "s", self._port)
        env = {"PATH": path_of(self._server_bin), "ADMIN_PASSWORD": "swordfish-1234"}
        env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        log = self._folder / "log"
        options = {"port": self._port, "log": log, "cwd": self._folder, **env}
        self._running.enter_context(serving(*words, **options))

    def stop(self) -> None:
        """Stop server and database, as an administrator would."""
        self._running.close()
        assert not (self._folder / "s" / "db" / "postmaster.pid").exists()

    def ask(self, query: str) -> list[str]:
        """Return the lines that the database answers."""
        return self._tell("psql", "-Atc", query).splitlines()

    def _tell(self, tool: str, *words: str) -> str:
        place = ("-h", self._folder / "s" / "db", "-Umlflow", "mlflow")
        return run(tool, *words, *place, cwd=self._folder).stdout

    def showing(self, *places: Path) -> list[Path]:
        """Return where a password can be read: here, and wherever the server writes."""
        (dump := self._folder / "dump").write_text(self._tell("pg_dump"))
        written = (dump, self._folder / "log", self._folder / "s" / "artifacts")
        config = self._folder / "s" / "auth.ini"
        assert showing(*ADMIN.values(), config) == [config]  # which is the server's own
        people = (ADMIN, RITA, TOM, ANN, MISTAKEN)
        found = [showing(*who.values(), *places, *written) for who in people]
        return sum(found, [])

    def make_users(self) -> None:
        """Type what the page tells the administrator to type, and make two others."""
        typed = USERS[1].replace("http://127.0.0.1:5000", self.url)
        typed = typed.replace("a-password-of-hers", RITA[PASSWORD])
        run(self._server_bin / "python", "-c", typed + OTHERS, cwd="/", **ADMIN)

    def environment(self, user: dict[str, str]) -> dict[str, str]:
        """Return a colleague's variables."""
        env = {"PATH": path_of(self.bin_), "MLFLOW_TRACKING_URI": self.url}
        return env | {"COLUMNS": "300"} | user


@pytest.fixture(scope="module")
def team(request, bin_):
    """Return a team's server with its users."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    server_bin = request.getfixturevalue("workbench")
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="team") as folder:
        Path(folder).chmod(0o711)
        server = Team(Path(folder), server_bin, bin_)
        server.start()
        server.make_users()
        yield server
        server.stop()


def test_colleagues_train_at_the_same_time(team, generated, fork, tmp_path):
    env = team.environment(RITA)
    # `mlflow run` itself makes an experiment, and not two at the same time.
    words = (team.bin_ / "kedro", "run", "--pipelines=data_engineering")
    fork.run(*words, cwd=shutil.copytree(generated, tmp_path / "first"), **env)
    options = {"project": generated, "folder": tmp_path, **env}
    options["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
    launcher = (team.bin_ / "mlflow", "run", ".", "--env-manager=local")
    started = start_eight(fork, *launcher, **options)
    started += start_eight(fork, team.bin_ / "kedro", "run", **options)
    check_all_succeed(started)
    # A busy server may answer so late that a run was asked for again.
    statuses = team.ask("SELECT status FROM runs WHERE lifecycle_stage = 'active'")
    assert statuses == ["FINISHED"] * 17
    assert team.ask("SELECT count(DISTINCT run_id) FROM model_versions") == ["16"]
    aliases = "SELECT count(*) FROM registered_model_aliases WHERE alias = 'champion'"
    assert team.ask(aliases) == ["1"]
    # What `mlflow run` has opened, its next start looks after.
    for name in ("*/mlruns", "*/mlflow.db", "kedro*/.runs/*"):
        assert not list(tmp_path.glob(name))
    assert not team.showing(tmp_path)


WHO = {"nobody": {}, "wrong password": MISTAKEN, "may only read": TOM}


@pytest.mark.parametrize("who", WHO)
def test_who_may_not_record_is_told_so_in_one_line(who, team, project, fork, tmp_path):
    name = {"MLFLOW_EXPERIMENT_NAME": "shared"}
    words = (team.bin_ / "kedro", "run", "--pipelines=data_engineering")
    fork.run(*words, cwd=project, **team.environment(RITA), **name)
    shutil.rmtree(project / "data" / "02_intermediate")
    before = team.ask("SELECT run_uuid, status FROM runs")
    last = refused(team, fork, WHO[who] | name, project, tmp_path / "log")
    assert last.startswith("Error: MLflow cannot record runs at http://127.0.0.1")
    assert "MLFLOW_TRACKING_PASSWORD" in last
    assert team.ask("SELECT run_uuid, status FROM runs") == before
    assert not list(project.glob("data/02_intermediate/*.parquet"))


def test_who_may_not_register_is_told_so_in_one_line(team, project, fork, tmp_path):
    fork.run(team.bin_ / "kedro", "run", cwd=project, **team.environment(RITA))
    versions = team.ask("SELECT version FROM model_versions")
    last = refused(team, fork, ANN, project, tmp_path / "log")
    assert last.startswith(f"Error: You may not register versions of {PACKAGE}: ")
    assert team.ask("SELECT version FROM model_versions") == versions
    (page,) = re.findall(r"runs/([0-9a-f]{32})", (tmp_path / "log").read_text())
    failed = f"FROM runs JOIN tags USING (run_uuid) WHERE run_uuid = '{page}'"
    failed = f"SELECT status, value {failed} AND key = 'failure.node'"
    assert team.ask(failed) == ["FAILED|promote_model"]
    models = f"SELECT name FROM logged_models WHERE source_run_id = '{page}'"
    assert "model" in team.ask(models)


STRAY = f"""
import sys
from mlflow import MlflowClient
sys.path.insert(0, "src")
from {PACKAGE}.tracking import recovery

MlflowClient().create_run(sys.argv[1], tags={{"creation.id": "twice"}})
recovery.end_runs(sys.argv[1], "tags.`creation.id` = 'twice'")
"""


def test_a_run_made_twice_that_its_user_may_not_delete_is_killed(team, project, fork):
    words = (team.bin_ / "mlflow", "experiments", "create", "-n", "the admin's")
    said = fork.run(*words, cwd=project, **team.environment(ADMIN)).stdout
    (number,) = re.findall(r"id (\d+)", said)
    words = (team.bin_ / "python", "-c", STRAY, number)
    fork.run(*words, cwd=project, **team.environment(RITA))
    state = "SELECT status, lifecycle_stage FROM runs WHERE experiment_id"
    assert team.ask(f"{state} = {number}") == ["KILLED|active"]


def refused(
    team: Team, fork: ForkServer, user: dict[str, str], project: Path, log: Path
) -> str:
    """Return the last line of a training that is refused within seconds."""
    began = time.monotonic()
    env = team.environment(user)
    done = fork.run(team.bin_ / "kedro", "run", cwd=project, ok=False, **env)
    assert time.monotonic() - began < 60
    log.write_text(done.stdout + done.stderr)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert not team.showing(project, log)
    return done.stderr.strip().splitlines()[-1]


def test_server_and_database_are_restarted_in_mid_run(team, project, tmp_path):
    words, env = command("sequential", team.bin_, project)
    env |= team.environment(RITA)
    pipeline = PausedRun(tmp_path / "signs", *words, cwd=pause_training(project), **env)
    team.stop()
    pipeline.go_on()
    pipeline.wait_for(lambda: pipeline.says(r"Retrying \("))
    team.start()
    assert pipeline.process.wait(300) == 0, pipeline.log.read_text()[-4000:]
    assert "RUNNING" not in team.ask("SELECT status FROM runs")
    (page,) = re.findall(r"runs/([0-9a-f]{32})", pipeline.log.read_text())
    status = f"SELECT status FROM runs WHERE run_uuid = '{page}'"
    assert team.ask(status) == ["FINISHED"]
    query = f"SELECT key FROM latest_metrics WHERE run_uuid = '{page}'"
    assert "accuracy" in team.ask(query)
    assert not team.showing(project, pipeline.log)
