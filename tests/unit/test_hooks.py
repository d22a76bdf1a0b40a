"""``tracking.hooks``: real Kedro sessions on a real store."""

import json
import os
import shutil
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from click import ClickException
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner
from runs import AUTHOR, METRICS, PACKAGE, recorded, run

CATALOG = Path("conf", "base", "catalog.yml")


def one(function, inputs=None, outputs=None) -> Pipeline:
    """Return a pipeline of one node; what it returns is saved only if it has a name."""

    def call(*values):
        return function(*values) if outputs else (function(*values), "done")

    return Pipeline([Node(call, inputs, outputs or "out", name="only")])


def succeed() -> None:
    pass


def fail() -> None:
    raise ValueError("boom")


def interrupt() -> None:
    raise KeyboardInterrupt


def open_nested() -> None:
    mlflow.start_run(nested=True)


def owed(project: Path) -> list[str]:
    """Return the runs that a folder still has to end."""
    found = []
    for path in (project / ".runs").glob("*.db"):
        with closing(sqlite3.connect(path)) as db:
            found += [run for (run,) in db.execute("SELECT run FROM pending")]
    return found


@pytest.fixture
def runs_of_server(server, project):
    """Return a function that reads the server's runs; sessions record there."""
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    return lambda: recorded(server.folder, "server.db")


# -- Outcomes of a run that the hooks open


def test_a_run_that_succeeds(session_run, runs_of, project):
    session_run(one(lambda: mlflow.log_metric("measured", 1)))
    (found,) = runs_of()
    assert found.status == "FINISHED" and found.experiment == PACKAGE
    assert found.metrics == {"measured": 1}
    assert found.tags["kedro.version"] and found.tags["kedro.run_id"]
    assert found.tags["kedro.runner"] == "SequentialRunner"
    assert not [tag for tag in found.tags if tag.startswith("failure")]
    assert mlflow.active_run() is None and owed(project) == []


def test_the_whole_pipeline(trained):
    (found,) = recorded(trained)
    assert found.status == "FINISHED"
    assert METRICS <= set(found.metrics) and found.metrics["accuracy"] >= 0.9
    assert found.params["model_options.C"] == "1.0"
    assert {"data/iris.csv", "figures/confusion_matrix.png"} <= found.artifacts


def test_a_node_that_raises(session_run, runs_of, project):
    def measure_and_fail():
        mlflow.log_metric("before_failure", 1.0)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        session_run(one(measure_and_fail))
    (found,) = runs_of()
    assert found.status == "FAILED"
    assert found.tags["failure.node"] == "only"
    assert found.tags["failure.error"] == "ValueError: boom"
    assert "failure/traceback.txt" in found.artifacts
    assert found.metrics == {"before_failure": 1.0}
    assert mlflow.active_run() is None and owed(project) == []


def test_a_dataset_that_cannot_be_loaded(session_run, runs_of, project):
    (project / "data" / "01_raw" / "iris.csv").write_text("sepal_length\n1.0\n")
    with pytest.raises(DatasetError):
        session_run(one(len, "iris"))
    (found,) = runs_of()
    assert found.status == "FAILED" and found.tags["failure.node"] == "only"
    assert "missing column(s): sepal_width" in found.tags["failure.error"]


def test_a_dataset_that_cannot_be_saved(session_run, runs_of):
    with pytest.raises(DatasetError):
        session_run(one(lambda: "no table", None, "train"))
    (found,) = runs_of()
    assert found.status == "FAILED" and found.tags["failure.node"] == "only"


def test_a_dataset_that_is_not_installed(session_run, runs_of, project):
    catalog = (project / CATALOG).read_text()
    (project / CATALOG).write_text(catalog.replace("ParquetDataset", "NoDataset"))
    with pytest.raises(DatasetError, match="NoDataset"):
        session_run(one(lambda: None, None, "train"))
    (found,) = runs_of()
    assert found.status == "FAILED" and "NoDataset" in found.tags["failure.error"]


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


def test_datasets_that_are_loaded_asynchronously(session_run, runs_of):
    session_run(one(len, "iris"), runner=SequentialRunner(is_async=True))
    (found,) = runs_of()
    assert found.status == "FINISHED" and "data/iris.csv" in found.artifacts


def test_each_session_of_a_process_is_a_run(session_run, runs_of):
    with pytest.raises(ValueError):
        session_run(one(fail))
    session_run(one(succeed))
    assert [found.status for found in runs_of()] == ["FAILED", "FINISHED"]


def test_a_part_of_the_pipeline_is_named(session_run, runs_of):
    part = {"node_names": ["only"], "to_nodes": ["only"], "tags": ["tagged"]}
    pipeline = one(lambda: [1], None, "out") + Pipeline([Node(len, "out", "size")])
    session_run(Pipeline(pipeline, tags=["tagged"]), **part)
    (found,) = runs_of()
    names = ("node_names", "to_nodes", "tags", "pipeline")
    given = [found.tags[f"kedro.{name}"] for name in names]
    assert given == ["only", "only", "tagged", "__default__"]


def test_an_empty_part_leaves_no_run(session_run, runs_of):
    with pytest.raises(ValueError):
        session_run(one(succeed), tags=["none-of-them"])
    assert runs_of() == []


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


# -- Parameters


def test_a_misspelt_parameter_leaves_no_run(session_run, runs_of):
    with pytest.raises(ClickException) as raised:
        session_run(one(succeed), runtime_params={"model_option": {"C": 1}})
    said = raised.value.message
    assert "Unknown parameter: model_option. Did you mean model_options?" in said
    assert runs_of() == []


def test_a_parameter_that_is_new_is_warned_of(session_run, runs_of, messages):
    session_run(one(succeed), runtime_params={"extra": 1})
    assert "Parameter extra is new: no parameters.yml has it." in messages
    (found,) = runs_of()
    assert found.params == {"extra": "1"}


def test_dotted_parameters_reach_their_groups(session_run, runs_of, tracking):
    given = {"model_options.C": 0.5, "extra": {"a": 1}}
    session_run(one(len, "params:model_options"), runtime_params=given)
    (found,) = runs_of()
    assert found.params["model_options.C"] == "0.5"
    assert found.params["model_options.max_iter"] == "200"
    assert found.params["extra.a"] == "1"
    assert tracking.parameters.expand_dotted({"a": 1}) == {"a": 1}


PARAMETERS = {
    "long": "x" * 20_000,
    "many": {f"p{i}": i for i in range(150)},
    "odd / name: (ü)": 1,
    "..": 2,
    "nested": [[1, 2], {"a": [3]}],
    "none": None,
    "empty": {},
    "a.b": 1,
    "a": {"b": 2},
    "deep": {"k" * 300: 1},
    "service": {"password": "hunter2", "api_key": "hunter2"},
}


def test_parameters_of_any_shape_are_logged(session_run, runs_of, project):
    odd = project / "conf" / "base" / "parameters_odd.yml"
    odd.write_text(json.dumps(PARAMETERS, ensure_ascii=False))
    session_run(one(len, "parameters"))
    (found,) = runs_of()
    assert found.status == "FINISHED"
    assert found.params["many.p149"] == "149" and len(found.params) > 160
    assert found.params["nested"] == "[[1, 2], {'a': [3]}]"
    assert found.params["none"] == "None" and found.params["empty"] == "{}"
    assert len(found.params["long"]) == 6000
    assert sorted(found.params[k] for k in ("a.b", "a.b_")) == ["1", "2"]
    assert "hunter2" not in (project / "mlflow.db").read_bytes().decode("latin1")


# -- Where runs go


def test_the_store_does_not_depend_on_the_directory(
    session_run, runs_of, project, tmp_path
):
    assert Path.cwd() != project
    session_run(one(succeed))
    assert mlflow.get_tracking_uri() == f"sqlite:///{project}/mlflow.db"
    assert not (tmp_path / "mlflow.db").exists()
    shutil.copy(project / "mlflow.db", tmp_path / "other.db")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'other.db'}"
    session_run(one(succeed))
    assert len(runs_of()) == 1 and len(recorded(tmp_path, "other.db")) == 2


def test_an_environment_can_name_another_store(session_run, runs_of, project):
    local = project / "conf" / "local" / "mlflow.yml"
    local.write_text("tracking_uri: sqlite:///of_my_own.db\nexperiment_name: mine\n")
    shutil.copy(project / "mlflow.db", project / "of_my_own.db")
    session_run(one(succeed))
    (found,) = recorded(project, "of_my_own.db")
    assert found.experiment == "mine" and runs_of() == []


def test_a_project_that_was_moved_goes_on(session_run, project, messages):
    session_run(one(succeed))
    moved = project.rename(project.parent / "moved there")
    session_run(one(succeed), folder=moved)
    assert f"The store has moved here from {project}: its runs open again." in messages
    messages.clear()
    session_run(one(succeed), folder=moved)
    assert not [said for said in messages if "has moved" in said]
    runs = recorded(moved)
    assert [found.status for found in runs] == ["FINISHED"] * 3
    assert all("environment/run.json" in found.artifacts for found in runs)


def test_a_folder_without_room_for_its_own_files(
    session_run, runs_of, project, messages
):
    (project / ".runs").write_text("not a folder")
    session_run(one(succeed))
    assert "RUNNING for ever" in messages[0]
    assert [found.status for found in runs_of()] == ["FINISHED"]


# -- Data and code that a run names


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_saved_files_that_the_catalog_names_are_artifacts(
    runner, session_run, runs_of, project
):
    entry = "  metadata: {kedro-viz: {layer: model_output}}\n"
    named = "  versioned: true\n  metadata: {mlflow: {artifact_path: output}}\n"
    text = (project / CATALOG).read_text()
    assert text.count(entry) == 1
    (project / CATALOG).write_text(text.replace(entry, named))
    session_run(one(lambda table: table, "iris", "predictions"), runner=runner())
    (found,) = runs_of()
    assert {"output/predictions.parquet", "data/iris.csv"} <= found.artifacts
    (saved,) = (project / "data" / "07_model_output" / "predictions.parquet").iterdir()
    assert saved.name == found.tags["kedro.run_id"]


def test_files_of_an_earlier_run_are_not_its_artifacts(session_run, runs_of, project):
    session_run(one(lambda: {"a": 1}, None, "metrics"))
    text = (project / CATALOG).read_text()
    entry = "  metadata: {kedro-viz: {layer: reporting}}\n"
    named = "  metadata: {mlflow: {artifact_path: ''}}\n"
    (project / CATALOG).write_text(text.replace(entry, named))
    past = (0, 0)
    os.utime(project / "data" / "08_reporting" / "metrics.json", past)
    with pytest.raises(ValueError):
        session_run(one(fail, None, "metrics"))
    session_run(one(lambda: {"a": 1}, None, "metrics"))
    first, failed, third = runs_of()
    assert "metrics.json" not in first.artifacts | failed.artifacts
    assert "metrics.json" in third.artifacts


def test_a_large_input_is_named_but_not_copied(session_run, runs_of, project):
    text = (project / CATALOG).read_text()
    (project / CATALOG).write_text(text.replace("max_mb: 10", "max_mb: 0.001"))
    session_run(one(len, "iris"))
    (found,) = runs_of()
    assert "data/iris.csv" not in found.artifacts
    with sqlite3.connect(project / "mlflow.db") as db:
        assert db.execute("SELECT name FROM datasets").fetchall() == [("iris",)]


def test_inputs_that_no_node_loads_here_are_named(session_run, project, messages):
    class Elsewhere(SequentialRunner):
        """Runs no node in this process, as a cluster does."""

        def _run(self, *args, **kwargs):
            pass

    session_run(one(len, "iris"), runner=Elsewhere())
    with sqlite3.connect(project / "mlflow.db") as db:
        assert db.execute("SELECT name FROM datasets").fetchall() == [("iris",)]


def test_runs_name_the_commit_and_a_changed_tree(session_run, runs_of, project):
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "First")):
        run("git", *AUTHOR, *words, cwd=project)
    ignored = project / ".git" / "info" / "exclude"
    ignored.write_text("*.db*\nmlruns\n.runs\n")
    run("git", "rm", "-q", "--cached", "mlflow.db", cwd=project)
    run("git", *AUTHOR, "commit", "-q", "-m", "Second", cwd=project)
    commit = run("git", "rev-parse", "HEAD", cwd=project).stdout.strip()
    session_run(one(succeed))
    (project / "requirements.txt").write_text("changed")
    session_run(one(succeed))
    runs = runs_of()
    assert {found.tags["mlflow.source.git.commit"] for found in runs} == {commit}
    assert [found.tags["git.dirty"] for found in runs] == ["false", "true"]


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
    assert any(f"did not take all of run {found.id}" in said for said in messages)


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
