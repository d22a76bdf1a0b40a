"""``tracking.commands.share``: a run goes to a file, another store, and this one.

Files that are refused are in ``test_hostile_files.py``.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import zipfile
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from run_contents import run_contents
from runs import PACKAGE, REPO, recorded


@pytest.fixture
def tracking(tracking):
    """Return the module under test."""
    return tracking


@pytest.fixture(scope="module")
def with_child(trained, copy_store, tmp_path_factory) -> Path:
    """Return a project whose training has a child run; tests must not change it."""
    folder = copy_store(trained, tmp_path_factory.mktemp("child") / REPO)
    (parent,) = recorded(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_run(parent.id).info.experiment_id
    tags = {"mlflow.parentRunId": parent.id}
    child = client.create_run(experiment, None, tags, "child").info.run_id
    for step in range(5):
        client.log_metric(child, "loss", 1 / (step + 1), step=step)
    client.set_terminated(child)
    return folder


@pytest.fixture
def project(with_child, copy_store, tmp_path) -> Path:
    """Return a copy of the project with a run and its child."""
    return copy_store(with_child, tmp_path / "mine" / REPO)


@pytest.fixture
def run_id(with_child) -> str:
    """Return the id of the run that has trained."""
    return next(r.id for r in recorded(with_child) if "kedro.run_id" in r.tags)


@pytest.fixture
def theirs(with_child, empty_store, tmp_path) -> Path:
    """Return the same project on another machine, with an empty store."""
    left = shutil.ignore_patterns("mlruns", "mlflow.db*")
    folder = shutil.copytree(with_child, tmp_path / "theirs" / REPO, ignore=left)
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def shared_file(with_child, tmp_path_factory, tracking_package) -> Path:
    """Return a file of the run, as ``kedro share`` writes it."""
    folder = tmp_path_factory.mktemp("shared")
    run = next(r.id for r in recorded(with_child) if "kedro.run_id" in r.tags)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{with_child}/mlflow.db")
        found = mlflow.get_run(run)
        about = tracking_package.commands.record.read_record(
            found, folder / "record", with_child, False
        )
    tracking_package.commands.share.pack(about, folder / "record", folder / "run.zip")
    return folder / "run.zip"


@pytest.fixture
def kedro(kedro_in_process):
    """Return a function that calls a command in a folder; it must succeed."""

    def call(*words, folder: Path, code: int = 0, **env: str):
        done = kedro_in_process(*words, folder=folder, **env)
        assert done.exit_code == code, done.output
        return done

    return call


# Sharing


def test_a_run_is_shared_in_a_file(project, run_id, kedro, tmp_path):
    file = tmp_path / "run.zip"
    done = kedro("share", run_id[:8], "-o", file, folder=project)
    assert done.stdout == f"Run {run_id[:8]} is in {file}.\n"
    with zipfile.ZipFile(file) as made:
        content = {name: made.read(name) for name in made.namelist()}
    about = json.loads(content["record.json"])
    assert about["format"] == 1
    assert about["files"].keys() | {"record.json"} == content.keys()
    assert {"artifacts/data/iris.csv", "model0/MLmodel"} < content.keys()
    assert len(about["record"]["children"]) == 1
    for told in (str(tmp_path), str(Path.home()), '"mlflow.user"'):
        assert told.encode() not in b"".join(content.values())


def test_the_user_is_named_when_it_is_asked_for(project, run_id, kedro, tmp_path):
    file = tmp_path / "run.zip"
    kedro("share", run_id, "-o", file, "--with-user", folder=project)
    with zipfile.ZipFile(file) as made:
        assert b'"mlflow.user"' in made.read("record.json")


@pytest.mark.parametrize("words", [(), ("-o", "a.zip", "--to", "sqlite:///a.db")])
def test_a_run_goes_to_one_place(project, run_id, kedro, words):
    done = kedro("share", run_id, *words, folder=project, code=2)
    assert "Give either -o FILE or --to URI." in done.stderr


def test_a_run_that_cannot_be_found_is_not_shared(project, kedro, tmp_path):
    done = kedro("share", "nonsense", "-o", "a.zip", folder=project, code=2)
    assert "No run nonsense" in done.stderr
    assert not Path("a.zip").exists()


def test_a_run_that_a_receiver_would_refuse_is_not_shared(project, run_id, kedro):
    with sqlite3.connect(project / "mlflow.db") as db:
        db.execute("UPDATE runs SET start_time = -1 WHERE run_uuid = ?", [run_id])
    done = kedro("share", run_id, "-o", "a.zip", folder=project, code=2)
    assert "-1 is no time of a run" in done.stderr
    assert not Path("a.zip").exists()


def test_a_file_whose_name_is_no_path_everywhere_is_not_packed(tracking, tmp_path):
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "a\\b").touch()
    with pytest.raises(
        tracking.commands.project_runs.CommandError, match="is no path on every system"
    ):
        tracking.commands.share.pack({}, folder, tmp_path / "run.zip")


def ids_at(uri: str) -> list[str]:
    """Return the ids of the runs of this project in a store."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(PACKAGE).experiment_id
    return [run.info.run_id for run in client.search_runs([experiment])]


def test_a_run_goes_to_a_server_and_back(
    project, run_id, kedro, server, theirs, tmp_path
):
    file, to = tmp_path / "run.zip", server.url.replace("//", "//me:hunter2@")
    done = kedro("share", run_id, "--to", to, folder=project)
    assert f"Run {run_id} is now run " in done.stdout
    assert "hunter2" not in done.output
    again = kedro("share", run_id, "--to", server.url, folder=project)
    assert "already is" in again.stdout
    env = {"MLFLOW_TRACKING_URI": server.url}
    header, line = kedro("runs", folder=project, **env).stdout.splitlines()
    kedro("share", line.split()[0], "-o", file, folder=project, **env)
    kedro("receive", file, folder=theirs)
    new = next(r.id for r in recorded(theirs) if "kedro.run_id" in r.tags)
    there = next(id_ for id_ in ids_at(server.url) if id_.startswith(line.split()[0]))
    contents = [
        run_contents(f"sqlite:///{project}/mlflow.db", run_id),
        run_contents(server.url, there),
        run_contents(f"sqlite:///{theirs}/mlflow.db", new),
    ]
    assert contents[0] == contents[1] == contents[2]
    assert contents[0]["children"][0]["metrics"]


def test_the_experiment_there_is_the_one_here(
    project, run_id, kedro, empty_store, tmp_path
):
    shutil.copy(empty_store, tmp_path / "other.db")
    to = f"sqlite:///{tmp_path}/other.db"
    env = {"MLFLOW_EXPERIMENT_NAME": PACKAGE, "MLFLOW_EXPERIMENT_ID": ""}
    kedro("share", run_id, "--to", to, folder=project, **env)
    assert {run.experiment for run in recorded(tmp_path, "other.db")} == {PACKAGE}


# Receiving


def test_a_run_is_received_once(theirs, run_id, shared_file, kedro):
    done = kedro("receive", shared_file, folder=theirs)
    new = next(r for r in recorded(theirs) if "kedro.run_id" in r.tags)
    uri = f"sqlite:///{theirs}/mlflow.db"
    assert done.stdout == f"Run {run_id} is now run {new.id} at {uri}.\n"
    assert new.tags["origin.run_id"] == run_id and new.id != run_id
    again = kedro("receive", shared_file, folder=theirs)
    assert again.stdout == f"Run {run_id} already is run {new.id} at {uri}.\n"
    assert len(recorded(theirs)) == 2
    listed = kedro("runs", folder=theirs).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == [new.id[:8]]


def test_a_run_that_was_made_here_is_not_received(project, run_id, shared_file, kedro):
    done = kedro("receive", shared_file, folder=project)
    assert f"Run {run_id} already is run {run_id} at" in done.stdout


def test_models_are_registered_when_it_is_asked_for(theirs, run_id, shared_file, kedro):
    for _ in range(2):
        done = kedro("receive", shared_file, "--register", folder=theirs)
        assert done.stdout.endswith(f"Its model is models:/{PACKAGE}/1.\n")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{theirs}/mlflow.db"
    (version,) = MlflowClient().search_model_versions()
    assert version.tags["origin.decision"] == "champion"
    assert not [name for name in version.tags if name.startswith("registry.")]
    assert MlflowClient().get_registered_model(PACKAGE).aliases == {}
    assert mlflow.sklearn.load_model(f"models:/{PACKAGE}/1")


def test_what_is_half_received_is_received_again(
    theirs, shared_file, kedro, tracking, monkeypatch
):
    describe = tracking.commands.record.edit_mlmodel

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking.commands.record, "edit_mlmodel", die)
        kedro("receive", shared_file, folder=theirs, code=1)
    assert tracking.commands.record.edit_mlmodel is describe
    (half,) = recorded(theirs)
    assert "origin.incomplete" in half.tags
    assert "No runs yet" in kedro("runs", folder=theirs).stdout
    done = kedro("share", half.id, "-o", "x.zip", folder=theirs, code=2)
    assert "is half received" in done.stderr
    kedro("receive", shared_file, folder=theirs)
    with sqlite3.connect(theirs / "mlflow.db") as db:
        for table, count in (("runs", 2), ("logged_models", 1)):
            query = f"SELECT count(*) FROM {table} WHERE lifecycle_stage = 'active'"
            assert db.execute(query).fetchone() == (count,)
    assert len(kedro("runs", folder=theirs).stdout.splitlines()) == 2


def test_a_refused_file_leaves_no_store(theirs, kedro, tmp_path):
    (theirs / "mlflow.db").unlink()
    (tmp_path / "bad.zip").write_text("hello")
    done = kedro("receive", tmp_path / "bad.zip", folder=theirs, code=2)
    assert "bad.zip is refused: " in done.stderr.splitlines()[-1]
    assert not (theirs / "mlflow.db").exists() and not (theirs / "mlruns").exists()


def test_trust_takes_a_model_that_asks_for_other_code(
    theirs, shared_file, kedro, tmp_path
):
    with zipfile.ZipFile(shared_file) as made:
        content = {name: made.read(name) for name in made.namelist()}
    about = json.loads(content["record.json"])
    name = "model0/MLmodel"
    content[name] = content[name].replace(b"flavors:\n", b"flavors:\n  other: {}\n")
    about["files"][name] = hashlib.sha256(content[name]).hexdigest()
    content["record.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as made:
        for name, text in content.items():
            made.writestr(name, text)
    done = kedro("receive", tmp_path / "other.zip", folder=theirs, code=2)
    assert "asks for the flavour other -- with --trust" in done.stderr
    assert recorded(theirs) == []
    kedro("receive", tmp_path / "other.zip", "--trust", folder=theirs)
    assert len(recorded(theirs)) == 2
