"""``tracking.provenance``: tags and parameters that say what made a run."""

import mlflow
from kedro.pipeline import Node, Pipeline
from runs import recorded

RUN_PARAMS = {
    "run_id": "2026-01-01T00.00.00.000Z",
    "kedro_version": "1.7.0",
    "env": "local",
    "pipeline_names": None,
    "runner": "<kedro.runner.thread_runner.ThreadRunner object at 0x7f>",
    "tags": ("one", "two"),
    "node_names": (),
    "from_nodes": [],
    "to_nodes": ["end"],
    "from_inputs": [],
    "to_outputs": None,
}


def copy(value):
    return value


def record_origin(tracking, run, parameters):
    tags = {"kedro.run_id": "now", "kedro.env": "local"}
    run = mlflow.get_run(run.info.run_id)
    tracking.provenance.log_all(run, tags, parameters, {"file.txt": b"text"})
    return mlflow.get_run(run.info.run_id)


def test_parameters_tags_and_files_are_recorded(tracking, active_run, project):
    made = record_origin(tracking, active_run, {"a": "1"})
    assert made.data.params == {"a": "1"}
    assert made.data.tags["kedro.env"] == "local"
    (run,) = recorded(project)
    assert run.artifacts == {"environment/file.txt"}


def test_a_callers_parameter_of_the_same_value_stays(tracking, active_run, messages):
    mlflow.log_params({"a": "0.010", "b": "x"})
    made = record_origin(tracking, active_run, {"a": "1e-2", "b": "x", "c": "2"})
    assert made.data.params == {"a": "0.010", "b": "x", "c": "2"}
    assert messages == []


def test_a_callers_parameter_of_another_value_is_kept(tracking, active_run, messages):
    mlflow.log_param("a", "1")
    made = record_origin(tracking, active_run, {"a": "2"})
    assert made.data.params == {"a": "1", "a.now": "2"}
    (message,) = messages
    assert "a is on the MLflow run as 1" in message and "logged as a.now" in message


def test_tags_say_what_made_a_run(tracking, tmp_path):
    pipeline = Pipeline([Node(copy, "a", "b", namespace="deep.one", name="n")])
    tags = tracking.provenance.run_tags(
        RUN_PARAMS | {"project_path": tmp_path}, pipeline
    )
    assert tags["kedro.pipeline"] == "__default__"
    assert tags["kedro.runner"] == "ThreadRunner"
    assert tags["kedro.session_id"] == tags["kedro.run_id"] == RUN_PARAMS["run_id"]
    assert tags["kedro.namespaces"] == "deep.one"
    assert (tags["kedro.tags"], tags["kedro.to_nodes"]) == ("one,two", "end")
    assert not {"kedro.node_names", "kedro.from_inputs", "kedro.to_outputs"} & {*tags}
    assert not [name for name in tags if "git" in name]


def test_tags_have_defaults(tracking, tmp_path):
    given = RUN_PARAMS | {"runner": None, "pipeline_names": ["a", "b"], "tags": ()}
    pipeline = Pipeline([Node(copy, "a", "b")])
    given |= {"session_id": "s", "project_path": tmp_path}
    tags = tracking.provenance.run_tags(given, pipeline)
    assert tags["kedro.runner"] == "SequentialRunner"
    assert (tags["kedro.pipeline"], tags["kedro.session_id"]) == ("a,b", "s")
    assert not {"kedro.tags", "kedro.namespaces"} & {*tags}
