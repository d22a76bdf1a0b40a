"""``tracking.database``: addresses, locks, and stores that were moved."""

import shutil
import sqlite3
import threading
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException


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
