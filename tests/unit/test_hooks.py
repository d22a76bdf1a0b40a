"""``tracking.hooks``: real Kedro sessions on a real store."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import mlflow
import pytest
from click import ClickException
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner
from one_node import fail, one, owed, succeed
from runs import AUTHOR, METRICS, PACKAGE, recorded, run

CATALOG = Path("conf", "base", "catalog.yml")


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
