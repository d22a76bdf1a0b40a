"""``tracking.client``: connecting to a store, time-outs and errors."""

import os
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from click import ClickException
from runs import free_port

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
URI = "MLFLOW_TRACKING_URI"


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


def test_the_page_of_a_run_is_shown_if_it_has_one(
    tracking, client, on_server, messages
):
    run = on_server.create_run("0", run_name="my run")
    tracking.client.log_run_url(run)
    page = f"{os.environ[URI]}/#/experiments/0/runs/{run.info.run_id}"
    assert messages == [f"Run my run is recorded at {page}"]
    os.environ[URI] = "sqlite:///mlflow.db"
    tracking.client.log_run_url(run)
    assert len(messages) == 1


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


@pytest.mark.slow
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


def test_what_is_missing_is_said_in_the_log_and_on_the_run(
    tracking, on_server, messages
):
    run_id = on_server.create_run("0").info.run_id
    calls = tracking.client.BestEffortCalls(run_id, tracking.client.EXIT)
    assert calls.attempt("a tag", on_server.set_tag, "a", "b")
    assert not calls.attempt("a metric", on_server.log_metric, "a", "not a number")
    assert not calls.attempt("a file", on_server.log_artifact, "/no/such/file")
    calls.report_failures()
    (said,) = messages
    assert run_id in said and "a metric: " in said and "/no/such/file" in said
    tags = on_server.get_run(run_id).data.tags
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
