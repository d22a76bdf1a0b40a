"""``tracking.store``: configuration of the tracking store and connection errors."""

import os
import re
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from click import ClickException
from mlflow.exceptions import MlflowException
from runs import PACKAGE, free_port

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
URI = "MLFLOW_TRACKING_URI"


@pytest.fixture
def client(tracking, project) -> mlflow.MlflowClient:
    """Return a client of the project's own SQLite store."""
    tracking.config.configure({}, project)
    return mlflow.MlflowClient()


@pytest.fixture
def remote(tracking, server, project) -> mlflow.MlflowClient:
    """Return a client of the server."""
    os.environ[URI] = server.url
    tracking.config.configure({}, project)
    return mlflow.MlflowClient()


# -- Credentials

MASKED = {
    "http://me:secret@host/api": "http://***@host/api",
    "http://me:sec/ret@host:5000 said no": "http://***@host:5000 said no",
    "postgresql+psycopg2://u:p@ss@h/db": "postgresql+psycopg2://***@h/db",
    "mysql://host/db?user=me&password=secret": "mysql://host/db?user=***&password=***",
    "'sqlite:///a b.db' and nothing else": "'sqlite:///a b.db' and nothing else",
    "token=abc, api_key=def": "token=***, api_key=***",
}


@pytest.mark.parametrize("text, shown", MASKED.items())
def test_credentials_of_addresses_are_masked(tracking, text, shown):
    assert tracking.redact.mask(text) == shown


def test_credentials_of_variables_are_masked_wherever_they_stand(tracking):
    os.environ["MLFLOW_TRACKING_PASSWORD"] = "hunter2"
    os.environ["MLFLOW_TRACKING_TOKEN"] = "a+b(c"
    os.environ[URI] = "http://me:p%40ss@host"
    said = tracking.redact.mask(
        "hunter2 in 'a+b(c', p@ss and p%40ss, but not in hunter22"
    )
    assert said == "*** in '***', *** and ***, but not in hunter22"


def test_the_first_line_of_an_error_has_no_credentials(tracking):
    error = ValueError("no answer from http://me:secret@host\nand much more")
    assert tracking.redact.first_line(error) == "no answer from http://***@host"
    assert tracking.redact.first_line(ValueError()) == "ValueError"


def test_credentials_are_taken_out_of_the_address(tracking, tmp_path):
    os.environ[URI] = "https://me:p%2Fss@host:5000/path"
    tracking.config.configure({}, tmp_path)
    assert os.environ[URI] == "https://host:5000/path"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p/ss"
    assert tracking.environment.user_env(URI) == "https://host:5000/path"
    tracking.config.configure({"tracking_uri": "sqlite:///other.db"}, tmp_path)
    assert os.environ[URI] == "https://host:5000/path"


def test_credentials_of_variables_win_over_those_of_the_address(tracking, tmp_path):
    os.environ["MLFLOW_TRACKING_USERNAME"] = "chosen"
    tracking.config.configure({"tracking_uri": "http://me@host"}, tmp_path)
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "chosen"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ""
    assert os.environ[URI] == "http://host"
    assert (
        tracking.environment.user_env(URI) is None
    )  # mlflow.yml may name another the next time


# -- Configuration


@pytest.mark.parametrize(
    "config, expected",
    [
        ({}, "sqlite:///{project}/mlflow.db"),
        ({"tracking_uri": "sqlite:///of/mine.db"}, "sqlite:///{project}/of/mine.db"),
        ({"tracking_uri": "sqlite:////of/all.db"}, "sqlite:////of/all.db"),
        ({"tracking_uri": "http://host:5000"}, "http://host:5000"),
    ],
)
def test_the_address_is_that_of_mlflow_yml(config, expected, tracking, tmp_path):
    tracking.config.configure(config, tmp_path)
    assert os.environ[URI] == expected.format(project=tmp_path)
    assert tracking.environment.user_env(URI) is None


def test_the_callers_variables_win_and_ours_are_withdrawn(tracking, tmp_path):
    os.environ[URI], os.environ[TIMEOUT] = "sqlite:///chosen.db", "7"
    tracking.config.configure({"tracking_uri": "sqlite:///other.db"}, tmp_path)
    assert os.environ[URI] == "sqlite:///chosen.db"
    assert os.environ[TIMEOUT] == "7"
    assert os.environ[RETRIES] == tracking.client.RUNNING[RETRIES]
    tracking.environment.unset_env(TIMEOUT)
    tracking.environment.unset_env(RETRIES)
    assert os.environ[TIMEOUT] == "7" and RETRIES not in os.environ


def test_waiting_is_as_long_as_the_user_says(tracking, tmp_path):
    os.environ[TIMEOUT] = "7"
    tracking.config.configure({}, tmp_path)
    with (
        pytest.raises(KeyError),
        tracking.client.http_timeouts({RETRIES: "1", TIMEOUT: "2"}),
    ):
        assert (os.environ[RETRIES], os.environ[TIMEOUT]) == ("1", "7")
        raise KeyError
    assert os.environ[RETRIES] == tracking.client.RUNNING[RETRIES]


@pytest.mark.parametrize("quiet", [None, "false"])
def test_mlflow_prints_no_address_of_its_own(tracking, tmp_path, quiet):
    if quiet:
        os.environ[tracking.config.QUIET] = quiet
    tracking.config.configure({"tracking_uri": "http://host"}, tmp_path)
    assert os.environ[tracking.config.QUIET] == (quiet or "true")


def test_the_page_of_a_run_is_shown_if_it_has_one(tracking, client, remote, messages):
    run = remote.create_run("0", run_name="my run")
    tracking.client.log_run_url(run)
    page = f"{os.environ[URI]}/#/experiments/0/runs/{run.info.run_id}"
    assert messages == [f"Run my run is recorded at {page}"]
    os.environ[URI] = "sqlite:///mlflow.db"
    tracking.client.log_run_url(run)
    assert len(messages) == 1


# -- The first contact


def refusal(tracking, project: Path, uri: str = "") -> str:
    """Return the one line that says why a store cannot be used, and what to do."""
    if uri:
        os.environ[URI] = uri
    tracking.config.configure({}, project)
    began = time.monotonic()
    with pytest.raises(tracking.client.TrackingError) as raised:
        with tracking.client.verify_store(project):
            mlflow.MlflowClient().search_experiments()
    assert time.monotonic() - began < 20
    said = raised.value.message
    assert said.startswith("MLflow cannot record runs at ") and "\n" not in said
    return said


def test_a_server_that_is_down(tracking, project):
    said = refusal(tracking, project, f"http://127.0.0.1:{free_port()}")
    assert "at http://127.0.0.1" in said and URI in said


@pytest.mark.parametrize("sourced", [False, True], ids=["", "after config.sh"])
def test_the_first_contact_waits_ten_seconds_twice(tracking, project, sourced):
    os.environ[TIMEOUT] = "60"
    if sourced:  # set by the script, not by the user
        os.environ[f"KEDRO_{TIMEOUT}"] = "60"
    tracking.config.configure({}, project)
    with tracking.client.verify_store(project):
        waits = os.environ[TIMEOUT], os.environ[RETRIES]
    assert waits == ("10" if sourced else "60", "1")
    assert os.environ[TIMEOUT] == ("20" if sourced else "60")


def test_a_server_that_hangs(tracking, project):
    os.environ[RETRIES], os.environ[TIMEOUT] = "0", "1"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = refusal(tracking, project, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "at http://127.0.0.1" in said and "timed out" in said


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused(tracking, project, status):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status, "no entry")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(
            target=refusing.serve_forever, args=(0.01,), daemon=True
        ).start()
        uri = f"http://somebody:secret@127.0.0.1:{refusing.server_port}"
        said = refusal(tracking, project, uri)
        refusing.shutdown()
    assert str(status) in said and "MLFLOW_TRACKING_PASSWORD" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "uri", ["htp://nowhere", "postgresql+psycopg2://me:secret@127.0.0.1:9/db"]
)
def test_addresses_that_lead_nowhere(tracking, project, uri):
    assert "secret" not in refusal(tracking, project, uri)


def test_a_file_that_is_no_database(tracking, project):
    (project / "mlflow.db").write_text("not a database, but long enough to be read" * 9)
    assert "mlflow.db" in refusal(tracking, project)


def test_a_database_that_was_left_half_made(tracking, project):
    (project / "mlflow.db").unlink()
    with sqlite3.connect(project / "mlflow.db") as db:
        db.execute("CREATE TABLE _alembic_tmp_metrics (a)")  # an upgrade was killed
    said = refusal(tracking, project)
    assert f"move {project / 'mlflow.db'} away and try again" in said


def test_a_message_of_our_own_is_left_as_it_is(tracking, project, client):
    with pytest.raises(ClickException, match="^do this$"):
        with tracking.client.verify_store(project):
            raise ClickException("do this")


def test_a_project_without_a_store_gets_one(tracking, tmp_path):
    tracking.config.configure({"tracking_uri": "sqlite:///folder/new.db"}, tmp_path)
    with tracking.client.verify_store(tmp_path):
        sqlite3.connect(tmp_path / "folder" / "new.db").close()
    assert (tmp_path / "folder" / "new.db.lock").exists()


def test_one_process_at_a_time_uses_a_sqlite_store(tracking, tmp_path):
    uri, order = f"sqlite:///{tmp_path}/mlflow.db", []

    def second():
        with tracking.database.database_lock(uri):
            order.append("second")

    with tracking.database.database_lock(uri):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_file_of_a_sqlite_address(tracking):
    assert tracking.database.sqlite_file("sqlite:///a/b.db") == Path("a/b.db")
    assert tracking.database.sqlite_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert tracking.database.sqlite_file("sqlite:////a/b.db?timeout=30") == Path(
        "/a/b.db"
    )
    assert tracking.database.sqlite_file("http://host") is None


# -- Stores that were moved or copied


def record(client, experiment: str, location: Path | None = None) -> str:
    """Record a run with an artifact, a logged model and a version; return its id."""
    if not (found := client.get_experiment_by_name(experiment)):
        client.create_experiment(experiment, location and str(location))
        found = client.get_experiment_by_name(experiment)
    run = client.create_run(found.experiment_id)
    client.log_text(run.info.run_id, "kept", "note.txt")
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def reopen(tracking, project: Path) -> mlflow.MlflowClient:
    """Use the store of a project again, as a later run does."""
    tracking.config.configure({}, project)
    with tracking.client.verify_store(project):
        return mlflow.MlflowClient()


def test_a_store_that_was_moved_opens_its_old_runs(tracking, client, project, messages):
    with tracking.client.verify_store(project):
        old = record(client, "mine", project / "mlruns" / "mine")
        model = client.create_logged_model("1", "model", old)
        client.create_registered_model("iris")
        client.create_model_version("iris", model.artifact_location, old)
    moved = project.rename(project.parent / "moved there")
    client = reopen(tracking, moved)
    assert messages == [
        f"The store has moved here from {project}: its runs open again."
    ]
    run, experiment = client.get_run(old), client.get_experiment_by_name("mine")
    version = client.get_model_version("iris", "1")
    places = [run.info.artifact_uri, experiment.artifact_location, version.source]
    places += [client.get_logged_model(model.model_id).artifact_location]
    places += [client.get_model_version_download_uri("iris", "1")]
    assert all(str(moved) in place for place in places)
    kept = client.download_artifacts(old, "note.txt")
    assert Path(kept).read_text() == "kept"
    reopen(tracking, moved)
    assert len(messages) == 1 and not project.exists()


def test_a_copy_writes_nothing_into_its_original(tracking, client, project, tmp_path):
    chosen = tmp_path / "chosen" / "by the owner"
    with tracking.client.verify_store(project):
        first = record(client, "mine", project / "mlruns" / "mine")
        record(client, "own", chosen)
    copy = shutil.copytree(project, tmp_path / "copy")
    before = sorted(project.rglob("*"))
    client = reopen(tracking, copy)
    record(client, "mine")
    own = record(client, "own")
    assert sorted(project.rglob("*")) == before
    assert len([*(copy / "mlruns").rglob("note.txt")]) == 2
    assert any(own in str(path) for path in chosen.rglob("note.txt"))
    assert Path(client.download_artifacts(first, "note.txt")).read_text() == "kept"


def test_addresses_of_artifacts_as_uris_move_too(tracking, client, project):
    with tracking.client.verify_store(project):
        client.create_experiment("mine", (project / "mlruns").as_uri())
    moved = project.rename(project.parent / "moved there")
    found = reopen(tracking, moved).get_experiment_by_name("mine")
    assert found.artifact_location == (moved / "mlruns").as_uri()


def test_a_database_without_all_its_tables_is_left_to_mlflow(tracking, tmp_path):
    file = tmp_path / "mlflow.db"
    sqlite3.connect(file).close()
    tracking.database.relocate_artifacts(file, tmp_path)
    assert file.read_bytes() == b""


# -- Experiments


def test_the_experiment_is_made_where_it_is_missing(tracking, client, project):
    made = client.get_experiment(tracking.config.experiment_id({}, project))
    assert made.name == PACKAGE
    assert made.artifact_location == str(project / "mlruns" / PACKAGE)
    assert tracking.config.experiment_id({}, project) == made.experiment_id
    config = {"experiment_name": "of mlflow.yml", "artifact_location": "/some/where"}
    made = client.get_experiment(tracking.config.experiment_id(config, project))
    assert (made.name, made.artifact_location) == ("of mlflow.yml", "/some/where")
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "a/b c"
    made = client.get_experiment(tracking.config.experiment_id(config | {}, project))
    assert made.name == "a/b c"
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "d/e f"
    made = client.get_experiment(tracking.config.experiment_id({}, project))
    assert made.artifact_location == str(project / "mlruns" / "d_e_f")
    os.environ["MLFLOW_EXPERIMENT_ID"] = "0"
    assert tracking.config.experiment_id({}, project) == "0"


def test_an_experiment_that_was_deleted(tracking, client, project):
    number = tracking.config.experiment_id({}, project)
    client.delete_experiment(number)
    with pytest.raises(tracking.client.TrackingError) as raised:
        tracking.config.experiment_id({}, project)
    assert f"mlflow experiments restore -x {number}" in raised.value.message
    client.restore_experiment(number)
    assert tracking.config.experiment_id({}, project) == number


def test_another_process_makes_the_experiment_first(tracking, server, remote, project):
    other, made = mlflow.MlflowClient(server.database), []
    create = "POST experiments/create"
    server.break_next(create, lambda: made.append(other.create_experiment(PACKAGE)))
    assert tracking.config.experiment_id({}, project) == made[0]


def test_an_experiment_that_cannot_be_made(tracking, server, remote, project):
    server.break_next("POST experiments/create", 400)
    with pytest.raises(MlflowException):
        tracking.config.experiment_id({}, project)


# -- Calls that may fail


def test_what_is_missing_is_said_in_the_log_and_on_the_run(tracking, remote, messages):
    run_id = remote.create_run("0").info.run_id
    calls = tracking.client.BestEffortCalls(run_id, tracking.client.EXIT)
    assert calls.attempt("a tag", remote.set_tag, "a", "b")
    assert not calls.attempt("a metric", remote.log_metric, "a", "not a number")
    assert not calls.attempt("a file", remote.log_artifact, "/no/such/file")
    calls.report_failures()
    (said,) = messages
    assert run_id in said and "a metric: " in said and "/no/such/file" in said
    tags = remote.get_run(run_id).data.tags
    assert "a file: " in tags["record.missing"] and tags["a"] == "b"


def test_nothing_is_said_when_nothing_is_missing(tracking, client, messages):
    run_id = client.create_run("0").info.run_id
    tracking.client.BestEffortCalls(run_id, tracking.client.FINISH).report_failures()
    assert messages == []
    assert "record.missing" not in client.get_run(run_id).data.tags


def test_after_a_minute_only_the_end_is_told(tracking, client, project):
    run_id = client.create_run("0").info.run_id
    calls, waits = tracking.client.BestEffortCalls(run_id, tracking.client.FINISH), []

    def end(run_id):
        waits.append(os.environ[TIMEOUT])
        client.set_terminated(run_id)

    calls.until = time.monotonic() - 1
    assert not calls.attempt("a tag", client.set_tag, "a", "b")
    assert calls.attempt("its end", end, last=True)
    assert calls.missing == ["a tag: no time left"]
    assert waits == [tracking.client.EXIT[TIMEOUT]]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and "a" not in run.data.tags


def test_a_row_that_another_process_writes_is_tried_again(tracking):
    codes = ["BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"]

    def call(word: str, *, upper: bool) -> str:
        if codes:
            raise MlflowException(word, getattr(errors, codes.pop()))
        return word.upper() if upper else word

    from mlflow.protos import databricks_pb2 as errors

    assert tracking.database.retry_on_conflict(call, "done", upper=True) == "DONE"
    codes[:] = ["BAD_REQUEST"] * 4
    with pytest.raises(MlflowException):
        tracking.database.retry_on_conflict(call, "done", upper=True)
    assert len(codes) == 1
    codes[:] = ["PERMISSION_DENIED"] * 2
    with pytest.raises(MlflowException):
        tracking.database.retry_on_conflict(call, "done", upper=True)
    assert len(codes) == 1


def test_a_configuration_without_mlflow_yml(tracking, project):
    from kedro.config import OmegaConfigLoader

    def read() -> dict:
        folders = {"base_env": "base", "default_run_env": "local"}
        loader = OmegaConfigLoader(str(project / "conf"), **folders)
        return tracking.config.read_config(loader)

    assert read()["tracking_uri"] == "sqlite:///mlflow.db"
    (project / "conf" / "base" / "mlflow.yml").unlink()
    assert read() == {}
    (project / "conf" / "local" / "mlflow.yml").write_text("tracking_uri: http://host")
    assert re.match("http", read()["tracking_uri"])
