"""The check of the tracking store: what ``check.py`` says of it, and what to do."""

import contextlib
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import closed_port, http_server, silent_port

OLD = "451aebb31d03"  # the first version of MLflow's tables
UPGRADE = "mlflow db upgrade sqlite:///'"
RUN = "INSERT INTO runs VALUES (1);"
LEFT = "CREATE TABLE _alembic_tmp_trace_info (id);"


def tables(schema: str) -> str:
    """Return the statements that make the tables that are looked at."""
    return (
        "CREATE TABLE runs (id); CREATE TABLE experiment_tags (key, value);"
        f"CREATE TABLE alembic_version AS SELECT '{schema}' AS version_num;"
    )


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a folder whose name needs quotes in a shell."""
    folder = tmp_path / "Äpfel & Birnen"
    folder.mkdir()
    return folder


@pytest.fixture
def check(module, project) -> Callable[..., Any]:
    """Return a function that checks an address, by default the project's own."""

    def call(uri: str = "sqlite:///mlflow.db", shown: str = "") -> Any:
        return module("tracking.store_check").check_store(uri, project, shown or uri)

    return call


@pytest.fixture
def newest(empty_store) -> str:
    """Return the version of the tables of the MLflow that is installed."""
    with contextlib.closing(sqlite3.connect(empty_store)) as db:
        (version,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
    return version


@pytest.fixture
def server() -> Iterator[str]:
    """Return the address of a server that answers MLflow, and refuses some paths."""
    with http_server() as running:
        yield f"http://127.0.0.1:{running.server_port}"


def fill(project: Path, script: str) -> Path:
    """Make the project's store by statements."""
    store = project / "mlflow.db"
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.executescript(script)
    return store


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"tracking_uri": "x", "lock_timeout": 1, "experiment_name": None}, []),
            ({"lock_timeout": "${globals:wait}"}, []),
            ({"lock_timeout": "soon"}, ["must be a number"]),
            (
                {"tracking_url": "x", "lock_timeout": 1, "experiment": "y"},
                ["did you mean tracking_uri?", "did you mean experiment_name?"],
            ),
        ],
    )
    def test_each_is_refused_as_a_run_refuses_it(self, module, settings, said):
        refused = module("tracking.store_check").refused_settings(settings)
        assert len(refused) == len(said)
        assert all(hint in line for hint, line in zip(said, refused, strict=True))


class TestAddress:
    @pytest.mark.parametrize(
        "uri", ["./mlruns", "mlruns", "/a/b", "file:///data/mlruns"]
    )
    def test_a_folder(self, check, uri, monkeypatch):
        found = check(uri)
        assert found.level == "FAIL"
        assert found.state == f"{uri} is a folder: MLflow wants a database"
        assert found.remedy.startswith("mlflow migrate-filestore --source ")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        assert check(uri).level != "FAIL"

    @pytest.mark.parametrize(
        "uri", [r"C:\Users\Ada\mlruns", "C:/mlruns", "file:///C:/x"]
    )
    def test_a_folder_on_a_drive(self, check, uri):
        found = check(uri)
        assert found.level == "FAIL" and "migrate-filestore" in found.remedy

    @pytest.mark.parametrize("uri", ["databricks", "${oc.env:TRACKING}"])
    def test_what_only_mlflow_or_kedro_knows_is_not_called_ok(self, check, uri):
        assert check(uri) == ("-", f"{uri}, not asked", "")


class TestFile:
    def test_none_yet(self, check, project):
        assert check() == ("ok", f"{project}/mlflow.db, will be created", "")
        assert not list(project.iterdir())

    def test_no_folder(self, check, project):
        level, state, remedy = check(f"sqlite:///{project}/no folder/mlflow.db")
        assert (level, state) == ("FAIL", f"cannot write in {project}/no folder")
        assert remedy.startswith("mkdir -p '")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
    def test_read_only_folder(self, check, tmp_path):
        (tmp_path / "locked").mkdir(mode=0o500)
        found = check(f"sqlite:///{tmp_path}/locked/mlflow.db")
        assert found.level == "FAIL" and found.state.startswith("cannot write")

    def test_not_a_database(self, check, project):
        (project / "mlflow.db").write_bytes(b"not a database " * 99)
        found = check()
        assert found.level == "FAIL" and found.state.endswith("is not a database")
        assert found.remedy.startswith("mv '")

    def test_empty_file(self, check, project):
        (project / "mlflow.db").touch()
        assert check().level == "ok"

    def test_in_use(self, check, project):
        store = fill(project, tables(OLD))
        with contextlib.closing(sqlite3.connect(store)) as db:
            db.execute("BEGIN EXCLUSIVE")
            found = check()
        said = f"{store}: database is locked"
        assert found == ("note", said, "close what has it open")

    def test_a_store_that_mlflow_made(self, check, empty_store):
        assert check(f"sqlite:///{empty_store}") == ("ok", str(empty_store), "")

    @pytest.mark.parametrize(
        ("script", "remedy"),
        [
            (tables("NEWEST"), ""),
            (tables("NEWEST") + RUN, ""),
            (tables(OLD) + RUN, UPGRADE),
            (tables("later") + RUN, "pip install --upgrade mlflow"),
            (tables(OLD), "mv '"),
            (tables(OLD) + LEFT, "mv '"),
            ("CREATE TABLE runs (id);", "mv '"),
        ],
        ids=["current", "used", "old", "new", "half made", "full disk", "begun"],
    )
    def test_schema(self, check, project, newest, script, remedy):
        before = fill(project, script.replace("NEWEST", newest)).read_bytes()
        found = check()
        assert found.level == ("FAIL" if remedy else "ok")
        assert found.remedy.startswith(remedy) and bool(found.remedy) == bool(remedy)
        assert (project / "mlflow.db").read_bytes() == before

    @pytest.mark.parametrize("old", [True, False])
    def test_an_upgrade_that_broke_off(self, check, project, newest, old):
        """The table that is in the way goes, the runs stay."""
        store = fill(project, tables(OLD if old else newest) + RUN + LEFT)
        found = check()
        assert found.state == f"{store} does not fit this MLflow version"
        drop, _, upgrade = found.remedy.partition(" && ")
        assert upgrade.startswith(UPGRADE) == old
        python, option, code = shlex.split(drop)
        assert (python, option) == ("python", "-c")
        exec(code, {})
        with contextlib.closing(sqlite3.connect(store)) as db:
            assert db.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        after = check()
        assert after.level == ("FAIL" if old else "ok")
        assert "_alembic_tmp" not in after.remedy

    @pytest.mark.parametrize("moved", [False, True])
    def test_a_project_that_was_moved(self, check, project, newest, moved):
        made_in = "/old place" if moved else project
        tag = f"INSERT INTO experiment_tags VALUES ('project.folder', '{made_in}');"
        store = fill(project, tables(newest) + RUN + tag)
        note = ("note", f"{store} was made in {made_in}", "kedro run (sets it right)")
        assert check() == (note if moved else ("ok", str(store), ""))


class TestServer:
    def test_that_answers(self, check, server):
        assert check(server) == ("ok", f"{server} answers", "")

    def test_of_something_else(self, check, server):
        level, state, remedy = check(f"{server}/other")
        assert level == "FAIL" and state.startswith(f"{server}/other: ")
        assert "code 404" in state
        assert remedy.endswith("or choose another MLFLOW_TRACKING_URI")

    @pytest.mark.parametrize("code", [401, 403])
    def test_that_asks_for_credentials(self, check, server, code):
        level, state, remedy = check(f"{server}/{code}")
        assert level == "FAIL" and f"error code {code}" in state
        assert remedy.startswith("export MLFLOW_TRACKING_USERNAME=... ")

    @pytest.mark.parametrize("place", ["variables", "address"])
    def test_that_gets_the_credentials(self, check, server, monkeypatch, place):
        uri = f"{server}/basic"
        if place == "variables":
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
        else:
            uri = uri.replace("://", "://me:s3cret@")
        assert check(uri, shown=server) == ("ok", f"{server} answers", "")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_that_is_dead(self, check, scheme):
        uri = f"{scheme}://127.0.0.1:{closed_port()}"
        level, state, remedy = check(uri)
        assert (level, state) == ("FAIL", f"{uri}: does not answer")
        assert remedy.startswith("start or repair it, or choose another ")

    def test_that_stays_silent(self, check, tracking, monkeypatch):
        a_second = tracking.client.http_policy(retries=0, timeout=1)
        monkeypatch.setattr(tracking.store_check, "ASK_ONCE", a_second)
        with silent_port() as port:
            found = check(f"http://127.0.0.1:{port}")
        assert found.level == "FAIL" and found.state.endswith(": does not answer")

    def test_a_password_with_a_slash(self, check):
        with silent_port() as port:
            _, state, _ = check(f"http://me:s3c/ret@127.0.0.1:{port}", shown="***")
        assert "s3c" not in state and "ret@" not in state

    def test_a_database_without_its_driver(self, check):
        uri = "mssql+pyodbc://me:s3cret@db/mlflow?password=s3cret"
        level, state, remedy = check(uri, shown="***")
        assert (level, state) == ("FAIL", "***: No module named 'pyodbc'")
        assert remedy.startswith("start or repair")

    @pytest.mark.parametrize("uri", ["postgresql://db:x/db", "mysql+x://[db/x"])
    def test_addresses_that_are_none(self, check, uri):
        level, state, _ = check(uri)
        assert level == "FAIL" and state.startswith(f"{uri}: ")
