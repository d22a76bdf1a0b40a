"""A team's server as docs/team-server.sh starts it: PostgreSQL, users, artifacts."""

import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import groups
from runs import (
    PACKAGE,
    ROOT,
    build_environment,
    command,
    free_port,
    path_of,
    run,
    serving,
    start,
)
from test_faults import Held, holding

pytestmark = pytest.mark.slow

USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
ADMIN = {USER: "admin", PASSWORD: "swordfish-1234"}
RITA = {USER: "rita", PASSWORD: "catfish-123456"}  # a colleague
TOM = {USER: "tom", PASSWORD: "dogfish-123456"}  # a guest, who may only read
USERS = re.search("```python\n(.*?)```", (ROOT / "docs/team.md").read_text(), re.S)


class Team:
    """The server of a team, which can be stopped and started again."""

    def __init__(self, folder: Path, bin_: Path) -> None:
        self.bin_, self._folder, self._port = bin_, folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._running = ExitStack()

    def start(self) -> None:
        words = (ROOT / "docs" / "team-server.sh", self._folder / "s", self._port)
        env = {"PATH": path_of(self.bin_), "ADMIN_PASSWORD": "swordfish-1234"}
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
        words = ("psql", "-Atc", query, "-h", self._folder / "s" / "db", "-Umlflow")
        return run(*words, "mlflow", cwd=self._folder).stdout.splitlines()

    def make_users(self) -> None:
        """Type what the page tells the administrator to type, and make a guest."""
        typed = USERS[1].replace("http://127.0.0.1:5000", self.url)
        typed = typed.replace("a-password-of-hers", RITA[PASSWORD])
        typed += f"client.create_user('tom', '{TOM[PASSWORD]}')"
        run(self.bin_ / "python", "-c", typed, cwd="/", **ADMIN)

    def environment(self, user: dict[str, str]) -> dict[str, str]:
        """Return a colleague's variables."""
        env = {"PATH": path_of(self.bin_), "MLFLOW_TRACKING_URI": self.url}
        return env | {"COLUMNS": "300"} | user


@pytest.fixture(scope="module")
def team(generated, tmp_path_factory):
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    words = (*groups(generated, "dev"), "psycopg2-binary", "mlflow[auth]")
    bin_ = build_environment(tmp_path_factory.mktemp("team") / "environment", *words)
    with tempfile.TemporaryDirectory(
        prefix="team"
    ) as folder:  # sockets' paths are short
        Path(folder).chmod(0o711)
        server = Team(Path(folder), bin_)
        server.start()
        server.make_users()
        yield server
        server.stop()


def test_colleagues_train_at_the_same_time(team, generated, tmp_path):
    env = team.environment(RITA)
    # `mlflow run` itself makes an experiment, and not two at the same time.
    words = (team.bin_ / "kedro", "run", "--pipelines=data_engineering")
    run(*words, cwd=shutil.copytree(generated, tmp_path / "first"), **env)
    before = len(team.ask("SELECT 1 FROM runs"))
    ways = [("kedro", "run"), ("mlflow", "run", ".", "--env-manager=local")] * 2
    names = {"MLFLOW_EXPERIMENT_NAME": PACKAGE}
    logs = [(tmp_path / f"{number}.log").open("w+") for number in range(len(ways))]
    running = []
    for number, (tool, *words) in enumerate(ways):
        project = shutil.copytree(generated, tmp_path / str(number))
        words = (team.bin_ / tool, *words)
        output = logs[number]
        running.append(start(*words, cwd=project, output=output, **env, **names))
    codes = [process.wait(600) for process in running]
    assert codes == [0] * 4, [log.seek(0) or log.read()[-2000:] for log in logs]
    statuses = team.ask("SELECT status FROM runs")
    assert statuses[before:] == ["FINISHED"] * 4
    assert team.ask("SELECT count(DISTINCT run_id) FROM model_versions") == ["4"]
    aliases = "SELECT count(*) FROM registered_model_aliases WHERE alias = 'champion'"
    assert team.ask(aliases) == ["1"]
    for name in ("mlruns", "mlflow.db"):
        assert not list(tmp_path.glob(f"*/{name}"))


@pytest.mark.parametrize("who", ["nobody", "wrong password", "may only read"])
def test_who_may_not_record_is_told_so_in_one_line(who, team, project):
    user = {
        "nobody": {},
        "wrong password": {**RITA, PASSWORD: "mistaken-12345"},
        "may only read": TOM,
    }[who]
    name = {"MLFLOW_EXPERIMENT_NAME": "shared"}
    words = (team.bin_ / "kedro", "run", "--pipelines=data_engineering")
    run(*words, cwd=project, **team.environment(RITA), **name)
    shutil.rmtree(project / "data" / "02_intermediate")
    before = team.ask("SELECT run_uuid, status FROM runs")
    began = time.monotonic()
    env = team.environment(user) | name
    done = run(team.bin_ / "kedro", "run", cwd=project, ok=False, **env)
    assert time.monotonic() - began < 60
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = done.stdout + done.stderr
    assert not re.search("mistaken|catfish|dogfish|swordfish", said)
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs at http://127.0.0.1")
    assert "MLFLOW_TRACKING_PASSWORD" in last
    assert team.ask("SELECT run_uuid, status FROM runs") == before
    assert not list(project.glob("data/02_intermediate/*.parquet"))
    files = [file for file in project.rglob("*") if file.is_file()]
    written = b"".join(file.read_bytes() for file in files)
    assert not re.search(b"mistaken|dogfish", written)


def test_server_and_database_are_restarted_in_mid_run(team, project, tmp_path):
    words, env = command("sequential", team.bin_, project)
    env |= team.environment(RITA)
    pipeline = Held(tmp_path / "signs", *words, cwd=holding(project), **env)
    team.stop()
    pipeline.go_on()
    time.sleep(5)
    team.start()
    assert pipeline.process.wait(300) == 0, pipeline.log.read_text()[-4000:]
    assert set(team.ask("SELECT status FROM runs")) == {"FINISHED"}
    (page,) = re.findall(r"runs/([0-9a-f]{32})", pipeline.log.read_text())
    query = f"SELECT key FROM latest_metrics WHERE run_uuid = '{page}'"
    assert "accuracy" in team.ask(query)
