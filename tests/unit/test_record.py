"""``tracking.commands.record``: runs with models and child runs are written."""

import json
import os
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from run_contents import run_contents
from runs import PACKAGE, recorded

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FLOWERS = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=FEATURES)


@pytest.fixture
def project(project_with_children) -> Path:
    """Return a project with child runs; MLflow is led to its store."""
    return project_with_children


@pytest.fixture
def theirs(empty_store, tmp_path) -> Path:
    """Return another folder with an empty store."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def lead_to(folder: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"


def experiment(folder: Path) -> str:
    """Make an experiment whose artifacts are in a folder; return its id."""
    return MlflowClient().create_experiment(PACKAGE, str(folder / "artifacts"))


def read(tracking, run, folder: Path, project: Path):
    """Return the record of a run, as it comes out of a file."""
    about = tracking.commands.export.read_record(run, folder, project, False)
    return tracking.commands.record.parse_record(json.loads(json.dumps(about)), folder)


def test_a_run_is_the_same_in_another_store(
    tracking, project, parent_run, theirs, tmp_path
):
    made = parent_run.info.run_id
    before = run_contents(f"sqlite:///{project}/mlflow.db", made)
    found = read(tracking, parent_run, tmp_path / "record", project)
    lead_to(theirs)
    run_id = tracking.commands.record.write_record(found, experiment(theirs))
    after = run_contents(f"sqlite:///{theirs}/mlflow.db", run_id)
    assert after == before and run_id != made
    assert len(after["children"]) == 3
    assert [model[0] for model in after["models"]] == ["model"]
    tags = mlflow.get_run(run_id).data.tags
    assert tags["origin.run_id"] == made
    assert tags["origin.experiment"] == PACKAGE
    assert tags["mlflow.source.name"] and "…/" in tags["python.executable"]
    runs = recorded(theirs)
    assert not [run for run in runs if "origin.incomplete" in run.tags]
    children = [run for run in runs if run.id != run_id]
    assert {run.tags["mlflow.parentRunId"] for run in children} == {run_id}


def test_a_received_model_is_loaded_and_says_where_it_is(
    tracking, project, parent_run, theirs, tmp_path
):
    found = read(tracking, parent_run, tmp_path / "record", project)
    lead_to(theirs)
    run_id = tracking.commands.record.write_record(found, experiment(theirs))
    outputs = mlflow.get_run(run_id).outputs.model_outputs
    models = [MlflowClient().get_logged_model(o.model_id) for o in outputs]
    (model,) = (model for model in models if model.name == "model")
    model_id = model.model_id
    assert model.source_run_id == run_id and str(model.status) == "READY"
    place = Path(model.artifact_location)
    said = yaml.safe_load((place / "MLmodel").read_text())
    assert said["model_id"] == said["model_uuid"] == model_id
    assert (said["run_id"], said["artifact_path"]) == (run_id, str(place))
    registered = json.loads(model.tags["origin.versions"])
    assert registered[0]["name"] == PACKAGE
    assert registered[0]["tags"]["registry.decision"] == "champion"
    loaded = mlflow.pyfunc.load_model(f"models:/{model_id}")
    assert list(loaded.predict(FLOWERS)) == ["setosa"]


def test_a_run_of_nothing_is_read_and_written(tracking, project, theirs, tmp_path):
    with mlflow.start_run() as run:
        pass
    ended = mlflow.get_run(run.info.run_id)
    found = read(tracking, ended, tmp_path / "record", project)
    lead_to(theirs)
    written = tracking.commands.record.write_record(found, experiment(theirs))
    info = mlflow.get_run(written).info
    assert (info.run_name, info.status) == (run.info.run_name, "FINISHED")


def test_an_interrupted_receiver_is_seen_and_forgotten(
    tracking, project, parent_run, theirs, tmp_path
):
    found = read(tracking, parent_run, tmp_path / "record", project)
    shutil.rmtree(tmp_path / "record" / "model0")
    (tmp_path / "record" / "model0").mkdir()
    (tmp_path / "record" / "model0" / "MLmodel").write_text("- no mapping\n")
    lead_to(theirs)
    where = experiment(theirs)
    with pytest.raises(TypeError):
        tracking.commands.record.write_record(found, where)
    (half,) = MlflowClient().search_runs([where])
    assert half.info.status == "RUNNING"
    assert half.data.tags["origin.incomplete"] == parent_run.info.run_id
    tracking.commands.record.delete_run(half)
    assert MlflowClient().search_runs([where]) == []
    assert MlflowClient().search_logged_models([where]) == []


def test_a_run_is_forgotten_with_its_children(tracking, project, parent_run):
    tracking.commands.record.delete_run(parent_run)
    where = [parent_run.info.experiment_id]
    assert MlflowClient().search_runs(where) == []
    assert MlflowClient().search_logged_models(where) == []


def entries(**said: str) -> list:
    return [mlflow.entities.RunTag(key, value) for key, value in said.items()]


@pytest.mark.parametrize(
    "key, fine",
    [
        ("a.b/c d-e: f", True),
        ("ü", True),
        ("", False),
        ("/a", False),
        ("..", False),
        ("../a", False),
        ("a/../b", False),
        ("a//b", False),
        ("a" * 251, False),
        ("a\n", False),
        ("mlflow.parentRunId", False),
        ("origin.incomplete", False),
        ("mlflow.modelVersions", False),
    ],
)
def test_names_are_those_that_mlflow_takes(tracking, key, fine):
    try:
        tracking.commands.record.check_keys([], entries(**{key: "x"}), [])
    except ValueError:
        assert not fine
    else:
        assert fine


def test_values_are_as_long_as_mlflow_takes_them(tracking):
    tracking.commands.record.check_keys(
        entries(a="x" * 6000), entries(a="x" * 8000), []
    )
    with pytest.raises(ValueError, match="'a' is over 6000 characters"):
        tracking.commands.record.check_keys(entries(a="x" * 6001), [], [])
    with pytest.raises(ValueError, match="'a' is over 8000 characters"):
        tracking.commands.record.check_keys([], entries(a="x" * 8001), [])


def test_a_description_is_changed_where_there_is_one(tracking, tmp_path):
    tracking.commands.record.edit_mlmodel(tmp_path, run_id="1")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "MLmodel").write_text("run_id: '0'\nname: ü\n", "utf-8")
    tracking.commands.record.edit_mlmodel(tmp_path, run_id="1")
    said = yaml.safe_load((tmp_path / "MLmodel").read_text("utf-8"))
    assert said == {"run_id": "1", "name": "ü"}
