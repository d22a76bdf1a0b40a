"""``tracking.commands.share``: a run goes to a file, another store, and this one.

Files that are refused are in ``test_archive.py``.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import zipfile
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from run_contents import run_contents
from runs import PACKAGE, REPO, recorded


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
        about = tracking_package.commands.export.read_record(
            found, folder / "record", with_child, False
        )
    tracking_package.commands.archive.pack(
        [about], folder / "record", folder / "run.zip"
    )
    return folder / "run.zip"


@pytest.fixture
def kedro(kedro_in_process):
    """Return a function that calls a command in a folder; it must succeed."""

    def call(*words, folder: Path, code: int = 0, **env: str):
        done = kedro_in_process(*words, folder=folder, **env)
        assert done.exit_code == code, done.output
        return done

    return call


def held(folder: Path, run_id: str) -> str:
    """Return in words what the run with its child holds; read without the commands."""
    found = next(run for run in recorded(folder) if run.id == run_id)
    artifacts = folder / "mlruns" / PACKAGE / run_id / "artifacts"
    files = sum(path.is_file() for path in artifacts.rglob("*"))
    values = len(found.metrics) + 5
    return (
        f"1 run, 1 child run, 1 model, {len(found.params)} parameters, "
        f"{values} metric values, {files} files"
    )


# Sharing


def test_a_run_is_shared_in_a_file(project, run_id, kedro, tmp_path):
    file = tmp_path / "run.zip"
    done = kedro("share", run_id[:8], "-o", file, folder=project)
    assert done.stdout == f"In {file}: {held(project, run_id)}.\n"
    with zipfile.ZipFile(file) as made:
        content = {name: made.read(name) for name in made.namelist()}
    about = json.loads(content["record.json"])
    assert about["files"].keys() | {"record.json"} == content.keys()
    assert {"artifacts/data/iris.csv", "model0/MLmodel"} < content.keys()
    assert len(about["records"][0]["children"]) == 1
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


def ids_at(uri: str) -> list[str]:
    """Return the ids of the runs of this project in a store."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(PACKAGE).experiment_id
    return [run.info.run_id for run in client.search_runs([experiment])]


@pytest.mark.slow
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
    first, last = done.stdout.splitlines()
    assert first == f"Run {run_id} is now run {new.id} at {uri}."
    there = held(theirs, new.id)
    assert last == f"All is there: {there}. New: 1 of 1."
    assert new.tags["origin.run_id"] == run_id and new.id != run_id
    again = kedro("receive", shared_file, folder=theirs)
    assert again.stdout == (
        f"Run {run_id} already is run {new.id} at {uri}.\n"
        f"All is there: {there}. New: 0 of 1.\n"
    )
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


# Several runs


@pytest.fixture
def several(project, run_id) -> dict[str, str]:
    """Add two runs, one of them failed, and one that is under way; return all ids."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{project}/mlflow.db"
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    ids = {"trained": run_id}
    for name, status in (("small", "FINISHED"), ("failed", "FAILED"), ("open", None)):
        made = client.create_run(experiment, run_name=name).info.run_id
        client.log_metric(made, "accuracy", 0.5)
        client.log_text(made, name, "notes/note.txt")
        if status:
            client.set_terminated(made, status)
        ids[name] = made
    return ids | {
        "child": next(r.id for r in recorded(project) if r.id not in ids.values())
    }


def test_several_runs_go_in_one_file(project, several, theirs, kedro, tmp_path):
    file = tmp_path / "runs.zip"
    words = ("small", several["trained"][:8], "small", several["child"], "-o", file)
    done = kedro("share", *words, folder=project)
    assert done.stdout.startswith(f"In {file}: 2 runs, 1 child run, 1 model, ")
    done = kedro("receive", file, "--register", folder=theirs)
    assert done.stdout.endswith(f"Its model is models:/{PACKAGE}/1.\n")
    assert "All is there: 2 runs, 1 child run, 1 model, " in done.stdout
    assert "New: 2 of 2." in done.stdout
    new = {run.tags["origin.run_id"]: run.id for run in recorded(theirs)}
    assert new.keys() == {several[name] for name in ("small", "trained", "child")}
    for name in ("small", "trained"):
        here = run_contents(f"sqlite:///{project}/mlflow.db", several[name])
        there = run_contents(f"sqlite:///{theirs}/mlflow.db", new[several[name]])
        assert here == there


@pytest.mark.slow
def test_an_experiment_is_shared_without_what_has_not_ended(
    project, several, theirs, kedro, server, tmp_path
):
    file = tmp_path / "runs.zip"
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_run(several["open"]).info.experiment_id
    tags = {"mlflow.parentRunId": several["failed"]}
    waiting = client.create_run(experiment, tags=tags).info.run_id
    done = kedro("share", "--experiment", "-o", file, folder=project)
    *left, last = done.stdout.splitlines()
    gone = sorted((several["open"], several["failed"], waiting))
    said = "has not ended, or is half received: left out."
    assert left == [f"Run {run_id} {said}" for run_id in gone]
    assert last.startswith(f"In {file}: 2 runs, 1 child run, 1 model, ")
    client.set_terminated(waiting)
    done = kedro("share", "--experiment", "--to", server.url, folder=project)
    assert "All is there: 3 runs, 2 child runs, 1 model, " in done.stdout
    done = kedro("share", "--experiment", "--to", server.url, folder=project)
    assert done.stdout.endswith(" New: 0 of 3.\n")
    assert len(ids_at(server.url)) == 5


def test_a_child_run_is_shared_alone(project, several, theirs, kedro, tmp_path):
    file = tmp_path / "child.zip"
    kedro("share", several["child"], "-o", file, folder=project)
    done = kedro("receive", file, folder=theirs)
    assert "All is there: 1 run, 5 metric values. New: 1 of 1." in done.stdout
    (new,) = recorded(theirs)
    assert new.tags["origin.run_id"] == several["child"]
    assert "mlflow.parentRunId" not in new.tags


@pytest.mark.parametrize("words", [(), ("last", "--experiment")])
def test_what_is_shared_is_named_once(project, kedro, words):
    done = kedro("share", *words, "-o", "a.zip", folder=project, code=2)
    assert "Give either runs or --experiment." in done.stderr


def test_an_experiment_without_runs_is_not_shared(theirs, kedro):
    done = kedro("share", "--experiment", "-o", "a.zip", folder=theirs, code=2)
    assert "There is no run to share." in done.stderr


@pytest.mark.slow
def test_receiving_several_runs_goes_on_where_it_was_interrupted(
    project, several, theirs, kedro, tmp_path, tracking, monkeypatch
):
    file, write = tmp_path / "runs.zip", tracking.commands.record.write_record
    names = [several[name] for name in ("small", "trained", "failed")]
    kedro("share", *names, "-o", file, folder=project)

    def write_the_first(found, *args, **tags):
        if recorded(theirs):
            raise KeyboardInterrupt
        return write(found, *args, **tags)

    with monkeypatch.context() as patch:
        patch.setattr(tracking.commands.record, "write_record", write_the_first)
        kedro("receive", file, folder=theirs, code=1)
    assert len(recorded(theirs)) == 1
    done = kedro("receive", file, folder=theirs)
    assert done.stdout.endswith(" New: 2 of 3.\n")
    assert len(recorded(theirs)) == 4


def test_what_is_lost_on_the_way_is_told(
    project, run_id, theirs, kedro, shared_file, tracking, monkeypatch
):
    def forget(*_):
        return []

    with monkeypatch.context() as patch:  # a store that takes no metric
        patch.setattr(tracking.commands.record, "to_metrics", forget)
        done = kedro("receive", shared_file, folder=theirs, code=2)
    assert re.search(rf"Of run {run_id}, \d+ metric values did not arrive", done.stderr)
