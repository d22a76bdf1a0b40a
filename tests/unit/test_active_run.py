"""``tracking.active_run``: runs are opened or joined, and end truthfully."""

import os
import signal
import threading

import mlflow
import pytest
from click import ClickException
from kedro.pipeline import Node, Pipeline
from kedro.runner import ThreadRunner
from one_node import fail, interrupt, one, open_nested, owed, succeed

# -- What nodes do with runs


@pytest.mark.parametrize("then", ["succeeds", "raises"])
def test_a_node_that_leaves_a_nested_run_open(then, session_run, runs_of):
    def open_another():
        mlflow.start_run(nested=True, run_name="left open")
        if then == "raises":
            fail()

    if then == "raises":
        with pytest.raises(ValueError):
            session_run(one(open_another))
    else:
        session_run(one(open_another))
    outer, inner = runs_of()
    assert inner.tags["mlflow.parentRunId"] == outer.id
    status = "FAILED" if then == "raises" else "FINISHED"
    assert (outer.status, inner.status) == (status, status)
    assert mlflow.active_run() is None


def test_a_node_that_ends_our_run(session_run, runs_of):
    def measure(_):
        mlflow.log_metric("afterwards", 1)

    session_run(one(mlflow.end_run))
    session_run(one(mlflow.end_run) + Pipeline([Node(measure, "out", None)]))
    last, first = runs_of()
    assert last.status == first.status == "FINISHED"
    assert first.metrics == {"afterwards": 1}


@pytest.mark.parametrize("outcome", ["FINISHED", "FAILED"])
def test_nodes_in_threads_share_the_run(outcome, session_run, runs_of):
    def measure(name):
        mlflow.log_metric(name, threading.get_ident() != threading.main_thread().ident)
        if name == "second":
            mlflow.start_run(nested=True)
            if outcome == "FAILED":
                fail()

    nodes = [
        Node(measure, given, None, name=given[-1]) for given in ("params:a", "params:b")
    ]
    options = {"runner": ThreadRunner(max_workers=2)}
    options["runtime_params"] = {"a": "first", "b": "second"}
    if outcome == "FAILED":
        with pytest.raises(ValueError):
            session_run(Pipeline(nodes), **options)
    else:
        session_run(Pipeline(nodes), **options)
    outer, inner = runs_of()
    assert outer.status == inner.status == outcome
    assert outer.metrics["second"] == 1 and outer.metrics.get("first", 1) == 1
    assert outer.tags["kedro.runner"] == "ThreadRunner"
    assert outer.tags.get("failure.error", "ValueError: boom") == "ValueError: boom"


# -- Interruptions


def test_an_interrupted_session_is_killed_by_the_next(session_run, runs_of, project):
    with pytest.raises(KeyboardInterrupt):
        session_run(one(interrupt))
    assert mlflow.active_run() is not None
    assert [found.status for found in runs_of()] == ["RUNNING"]
    session_run(one(succeed))
    assert [found.status for found in runs_of()] == ["KILLED", "FINISHED"]
    assert mlflow.active_run() is None


def test_a_session_within_a_node_ends_no_run(session_run, runs_of):
    def run_another():
        return session_run(one(lambda: 1, None, "inner"))

    session_run(one(run_another))
    (found,) = runs_of()
    assert found.status == "FINISHED"


def test_an_interrupted_process_ends_its_runs(session_run, runs_of, project, module):
    with pytest.raises(KeyboardInterrupt):
        session_run(one(interrupt))
    (hooks,) = module("settings").HOOKS
    hooks._end_open_runs()  # what `atexit` calls
    assert [found.status for found in runs_of()] == ["KILLED"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    assert mlflow.active_run() is None and owed(project) == []
    hooks._end_open_runs()


def test_sigterm_leaves_by_the_exit_handlers(session_run, tracking):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    session_run(one(succeed))
    assert signal.getsignal(signal.SIGTERM) is tracking.active_run.exit_on_sigterm
    with pytest.raises(SystemExit) as raised:
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 128 + signal.SIGTERM


def test_a_handler_of_the_user_is_left_in_place(session_run):
    def theirs(*_):
        pass

    signal.signal(signal.SIGTERM, theirs)
    session_run(one(succeed))
    assert signal.getsignal(signal.SIGTERM) is theirs


# -- Runs that others have opened


def test_sessions_join_the_run_of_their_caller(session_run, runs_of, project):
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{project}/mlflow.db"
    with mlflow.start_run(run_name="mine") as mine:
        mlflow.log_param("model_options.C", "1e0")
        mlflow.log_param("model_options.max_iter", 7)
        session_run(one(len, "params:model_options"))
        with pytest.raises(ValueError):
            session_run(one(fail))
        assert mlflow.active_run().info.run_id == mine.info.run_id
        assert runs_of()[0].status == "RUNNING"
    (found,) = runs_of()
    assert found.name == "mine" and found.status == "FINISHED"
    assert found.experiment == "Default" and found.tags["failure.node"] == "only"
    # What the caller has logged is not overwritten.
    assert found.params["model_options.C"] == "1e0"
    assert found.params["model_options.max_iter"] == "7"
    (other,) = (k for k in found.params if k.startswith("model_options.max_iter."))
    assert found.params[other] == "200"
    assert owed(project) == []


@pytest.fixture
def launched(project, module) -> str:
    """Return the id of a run that this process is to join, by MLFLOW_RUN_ID."""
    module("tracking.config").configure({}, project)
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    os.environ["MLFLOW_RUN_ID"] = run_id
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "elsewhere"  # which the run decides
    return run_id


@pytest.mark.parametrize("function", [succeed, fail, interrupt])
def test_a_launcher_ends_its_run_itself(
    function, launched, session_run, runs_of, project, module
):
    try:
        session_run(one(function))
    except (ValueError, KeyboardInterrupt):
        module("settings").HOOKS[0]._end_open_runs()
    (found,) = runs_of()
    assert (found.id, found.status) == (launched, "RUNNING")
    assert found.tags["kedro.pipeline"] == "__default__"
    assert ("failure.node" in found.tags) == (function is fail)
    assert mlflow.active_run() is None and owed(project) == []


# What is told by the next start, when `mlflow run` itself was killed.
LATER = {
    succeed: "FINISHED",
    fail: "FAILED",
    interrupt: "KILLED",
    mlflow.end_run: "FINISHED",
    open_nested: "FINISHED",
}


@pytest.mark.parametrize("function", LATER, ids=lambda function: function.__name__)
def test_mlflow_run_ends_its_run_or_the_next_start_does(
    function, launched, session_run, runs_of, project, module
):
    mlflow.MlflowClient().set_tag(launched, "mlflow.project.entryPoint", "main")
    try:
        session_run(one(function))
    except (ValueError, KeyboardInterrupt):
        module("settings").HOOKS[0]._end_open_runs()
    (found, *_) = runs_of()
    # It ends the run by our exit status; but may be interrupted with us.
    now = {interrupt: "KILLED", mlflow.end_run: "FINISHED"}.get(function, "RUNNING")
    assert (found.id, found.status) == (launched, now)
    assert owed(project) == [launched]
    os.environ.pop("MLFLOW_RUN_ID", None)
    session_run(one(succeed))
    assert runs_of()[0].status == LATER[function] and owed(project) == []
    assert {found.status for found in runs_of()[1:]} == {"FINISHED"}


def test_a_run_id_that_was_passed_to_workers_is_not_joined(
    launched, session_run, runs_of, module
):
    module("tracking.environment").set_env(
        "MLFLOW_RUN_ID", launched
    )  # by an earlier session
    del os.environ["MLFLOW_EXPERIMENT_NAME"]
    session_run(one(succeed))
    assert [found.status for found in runs_of()] == ["RUNNING", "FINISHED"]


# -- A server that fails


def test_a_server_records_a_run(session_run, runs_of_server, server, messages):
    session_run(one(len, "iris"))
    (found,) = runs_of_server()
    assert found.status == "FINISHED"
    (page,) = (said for said in messages if "is recorded at" in said)
    assert page.endswith(f"/runs/{found.id}") and server.url in page
    saved = {path.name for path in (server.folder / "artifacts").rglob("*")}
    assert {"iris.csv", "run.json"} <= saved


def test_a_store_that_is_down_refuses_the_run(session_run, server, runs_of_server):
    server.break_next(".*", "dropped", times=20)
    ran = []
    with pytest.raises(ClickException, match="MLflow cannot record runs at"):
        session_run(one(lambda: ran.append(1)))
    assert not ran and runs_of_server() == []


def test_what_was_opened_before_the_refusal_is_ended(
    session_run, server, runs_of_server, project
):
    server.break_next("POST runs/log-batch", 401)
    ran = []
    with pytest.raises(ClickException, match="MLFLOW_TRACKING_PASSWORD"):
        session_run(one(lambda: ran.append(1)))
    (found,) = runs_of_server()
    assert found.status == "FAILED" and not ran and owed(project) == []
    assert "401" in found.tags["failure.error"]
    assert mlflow.active_run() is None


@pytest.fixture
def ctrl_c():
    """Return a function that interrupts the main thread, as Ctrl-C does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return lambda: os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_before_the_first_node(session_run, server, runs_of_server, ctrl_c):
    server.break_next("POST runs/log-batch", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        session_run(one(succeed))
    (found,) = runs_of_server()
    assert found.status == "KILLED"
    assert mlflow.active_run() is None


def test_ctrl_c_while_a_failure_is_recorded(
    session_run, server, runs_of_server, ctrl_c, messages, project
):
    server.break_next("PUT .*traceback.txt", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        session_run(one(fail))
    (found,) = runs_of_server()
    assert found.status == "FAILED"
    assert found.tags["failure.error"] == "ValueError: boom"
    assert f"MLflow has not got all of run {found.id}." in messages
    assert mlflow.active_run() is None and owed(project) == []


def test_what_the_store_did_not_take_is_named(
    session_run, server, runs_of_server, messages
):
    server.break_next("PUT .*iris.csv", 413)
    session_run(one(len, "iris"))
    (found,) = runs_of_server()
    assert (
        found.status == "FINISHED"
        and "the artifact of iris: " in found.tags["record.missing"]
    )
    assert any(f"Run {found.id} lacks " in said for said in messages)


@pytest.mark.parametrize("function, status", [(succeed, "FINISHED"), (fail, "FAILED")])
def test_a_store_that_is_gone_at_the_end_is_told_by_the_next_start(
    function, status, session_run, server, runs_of_server, messages, project
):
    def go():
        server.break_next(".*", "dropped", times=1000)
        function()

    try:
        session_run(one(go))
    except ValueError:
        assert status == "FAILED"
    (found,) = runs_of_server()
    assert found.status == "RUNNING" and owed(project) == [found.id]
    said = f"MLflow could not be told that run {found.id} has ended {status}"
    (line,) = (message for message in messages if said in message)
    assert "The next `kedro run` in this folder tells it." in line
    assert mlflow.active_run() is None
    server.repair()
    session_run(one(succeed))
    first, second = runs_of_server()
    assert (first.status, second.status) == (status, "FINISHED")
    assert first.tags.get("failure.error") == (
        "ValueError: boom" if status == "FAILED" else None
    )
    assert owed(project) == []


@pytest.mark.slow
def test_a_run_that_may_have_a_duplicate_is_looked_at_again(
    session_run, server, runs_of_server, project
):
    del os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    server.break_next("POST runs/create", "later")
    session_run(one(succeed))
    (found,) = runs_of_server()
    assert found.status == "FINISHED" and owed(project) == [found.id]
    server.do_the_rest()  # after the run has ended
    assert [found.status for found in runs_of_server()].count("RUNNING") == 1
    session_run(one(succeed))
    statuses = sorted(found.status for found in runs_of_server())
    assert statuses == ["FINISHED", "FINISHED", "KILLED"] and owed(project) == []


def test_a_creation_that_is_lost_leaves_no_duplicate_if_the_user_has_set_retries(
    session_run, server, runs_of_server
):
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "3"
    server.break_next("POST runs/create", "lost")
    session_run(one(succeed))
    assert [found.status for found in runs_of_server()] == ["FINISHED"]
