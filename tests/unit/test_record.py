"""``tracking.record``: a run with models and child runs, read, checked and written."""

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
from runs import PACKAGE, REPO, recorded

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FLOWERS = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=FEATURES)


@pytest.fixture(scope="module")
def with_children(trained, copy_store, tmp_path_factory) -> Path:
    """Return a project whose training has child runs; tests must not change it."""
    folder = copy_store(trained, tmp_path_factory.mktemp("children") / REPO)
    (parent,) = recorded(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_run(parent.id).info.experiment_id
    for number in range(3):
        tags = {"mlflow.parentRunId": parent.id, "mlflow.user": "iris"}
        child = client.create_run(experiment, 1000, tags, f"child {number}")
        run_id = child.info.run_id
        for step in range(5):
            client.log_metric(run_id, "loss", 1 / (step + 1), 1000 + step, step)
        client.log_param(run_id, "number", number)
        client.log_text(run_id, "a note", "notes/note.txt")
        client.set_terminated(run_id, "FAILED" if number else "FINISHED", 2000)
    return folder


@pytest.fixture
def project(with_children, copy_store, tmp_path) -> Path:
    """Return a copy of the project with child runs; MLflow is led to its store."""
    folder = copy_store(with_children, tmp_path / "mine" / REPO)
    lead_to(folder)
    return folder


@pytest.fixture
def theirs(empty_store, tmp_path) -> Path:
    """Return another folder with an empty store."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def lead_to(folder: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def trouble(module) -> type[Exception]:
    """Return the error that a command shows as one line."""
    return module("tracking.commands.project_runs").CommandError


def trained_run():
    """Return the run with children."""
    (run,) = mlflow.search_runs(
        experiment_names=[PACKAGE],
        filter_string="tags.`kedro.run_id` LIKE '%'",
        output_format="list",
    )
    return run


def experiment(folder: Path) -> str:
    """Make an experiment whose artifacts are in a folder; return its id."""
    return MlflowClient().create_experiment(PACKAGE, str(folder / "artifacts"))


# A run as a whole


def test_a_run_is_the_same_in_another_store(tracking, project, theirs, tmp_path):
    run, folder = trained_run(), tmp_path / "record"
    made = run.info.run_id
    before = run_contents(f"sqlite:///{project}/mlflow.db", made)
    about = json.loads(
        json.dumps(
            tracking.commands.record.read_record(run, folder, project, with_user=False)
        )
    )
    lead_to(theirs)
    run_id = tracking.commands.record.write_record(
        tracking.commands.record.parse_record(about), folder, experiment(theirs)
    )
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
    tracking, project, theirs, tmp_path
):
    about = tracking.commands.record.read_record(
        trained_run(), tmp_path / "record", project, False
    )
    lead_to(theirs)
    found = tracking.commands.record.parse_record(about)
    run_id = tracking.commands.record.write_record(
        found, tmp_path / "record", experiment(theirs)
    )
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


def test_what_belongs_to_one_machine_stays_there(tracking, project, tmp_path):
    run = trained_run()
    about = tracking.commands.record.read_record(
        run, tmp_path / "record", project, with_user=False
    )
    names = {file.name for file in (tmp_path / "record").rglob("*") if file.is_file()}
    assert {"run.json", "iris.csv", "model.skops", "note.txt"} <= names
    texts = [
        file.read_text("utf-8", "ignore")
        for file in (tmp_path / "record").rglob("*")
        if file.is_file()
    ]
    said = json.dumps(about) + "".join(texts)
    for told in (str(tmp_path), str(Path.home()), "mlflow.user"):
        assert told not in said
    for field in (
        tracking.commands.record.STORE_FIELDS | tracking.commands.record.STORE_LINK_TAGS
    ):
        assert f'"{field}"' not in json.dumps(about["run"])
    with_user = tracking.commands.record.read_record(
        run, tmp_path / "with", project, with_user=True
    )
    tags = {tag["key"]: tag["value"] for tag in with_user["run"]["data"]["tags"]}
    assert tags["mlflow.user"] == run.data.tags["mlflow.user"]


def test_a_run_that_has_not_ended_is_not_read(tracking, trouble, project, tmp_path):
    with mlflow.start_run() as run:
        with pytest.raises(trouble, match="has not ended yet"):
            tracking.commands.record.read_record(
                run, tmp_path / "record", project, False
            )


def test_a_run_of_nothing_is_read_and_written(tracking, project, theirs, tmp_path):
    with mlflow.start_run() as run:
        pass
    found = mlflow.get_run(run.info.run_id)
    about = tracking.commands.record.parse_record(
        tracking.commands.record.read_record(found, tmp_path / "record", project, False)
    )
    lead_to(theirs)
    where = experiment(theirs)
    written = tracking.commands.record.write_record(about, tmp_path / "record", where)
    info = mlflow.get_run(written).info
    assert (info.run_name, info.status) == (run.info.run_name, "FINISHED")


def test_an_interrupted_receiver_is_seen_and_forgotten(
    tracking, project, theirs, tmp_path
):
    run = trained_run()
    about = tracking.commands.record.read_record(
        run, tmp_path / "record", project, False
    )
    found = tracking.commands.record.parse_record(about)
    shutil.rmtree(tmp_path / "record" / "model0")
    (tmp_path / "record" / "model0").mkdir()
    (tmp_path / "record" / "model0" / "MLmodel").write_text("- no mapping\n")
    lead_to(theirs)
    where = experiment(theirs)
    with pytest.raises(TypeError):
        tracking.commands.record.write_record(found, tmp_path / "record", where)
    (half,) = MlflowClient().search_runs([where])
    assert half.info.status == "RUNNING"
    assert half.data.tags["origin.incomplete"] == run.info.run_id
    tracking.commands.record.delete_runs([half], where)
    assert MlflowClient().search_runs([where]) == []
    assert MlflowClient().search_logged_models([where]) == []


def test_a_run_is_forgotten_with_its_children(tracking, project):
    run = trained_run()
    tracking.commands.record.delete_runs([run], run.info.experiment_id)
    assert MlflowClient().search_runs([run.info.experiment_id]) == []
    assert MlflowClient().search_logged_models([run.info.experiment_id]) == []


# Parts


@pytest.mark.parametrize(
    "text, shown",
    [
        ("/home/me/project/data/a.csv", "data/a.csv"),
        ("file:///home/me/project/a", "a"),
        ("/home/me/project", "…/project"),
        ("see /opt/lib/python3/x.py, line 3", "see …/x.py, line 3"),
        (r"C:\Users\me\x.py", "…/x.py"),
        ("file:///opt/lib/x", "…/x"),
        ("https://host/a/b", "https://host/a/b"),
        ("a/b/c", "a/b/c"),
        ("postgresql://me:hunter2@host/db", "postgresql://***@host/db"),
        (3, 3),
        (None, None),
    ],
)
def test_folders_and_credentials_are_not_told(tracking, text, shown):
    project = Path("/home/me/project")
    assert tracking.commands.record.make_portable(text, project) == shown
    assert tracking.commands.record.make_portable({"a": [text]}, project) == {
        "a": [shown]
    }


def test_fields_tags_and_parameters_are_left_out(tracking):
    found = {
        "user_id": "me",
        "tags": [{"key": "mlflow.user", "value": "me"}, {"key": "a", "value": "b"}],
        "list": ["user_id"],
    }
    left = {"user_id", "mlflow.user"}
    assert tracking.commands.record.make_portable(found, Path("/p"), left) == {
        "tags": [{"key": "a", "value": "b"}],
        "list": ["user_id"],
    }


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
