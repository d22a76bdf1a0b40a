"""``tracking.recovery``: recovery of runs whose process was interrupted."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import mlflow
import pytest
from runs import Run, recorded

FAILURE = {
    "failure.node": "train_model",
    "failure.error": "ValueError: boom",
    "traceback": "Traceback ...",
}


def uri() -> str:
    return os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def interrupted(tracking, client, project) -> str:
    """Return the id of a run whose process has left it as it was computing."""
    run_id = client.create_run("0").info.run_id
    tracking.recovery.PendingRun(project, uri(), "0", run_id).close()
    return run_id


def files(project: Path) -> list[str]:
    """Return the runs that a folder still has to end."""
    return sorted(path.stem for path in (project / ".runs").glob("*.db"))


def found(project: Path) -> Run:
    """Return the oldest run of a project."""
    return recorded(project)[0]


def test_a_run_that_was_killed_is_told_apart(tracking, interrupted, project, messages):
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    run = found(project)
    assert run.status == "KILLED"
    assert run.tags["failure.error"] == "the process died"
    assert messages == [f"Run {interrupted} of an earlier start has ended KILLED."]
    assert files(project) == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_status_that_a_run_had_at_its_end_is_told_later(
    status, tracking, client, project
):
    run_id = client.create_run("0").info.run_id
    entry = tracking.recovery.PendingRun(project, uri(), "0", run_id)
    began = int(time.time() * 1000)
    entry.set_final_status(status)
    if status == "FAILED":
        entry.set_failure(FAILURE)
    ended = int(time.time() * 1000)
    entry.close()
    time.sleep(0.01)
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    run = found(project)
    assert run.status == status and files(project) == []
    assert began <= client.get_run(run_id).info.end_time <= ended
    if status == "FAILED":
        assert FAILURE.items() - run.tags.items() == {("traceback", "Traceback ...")}
        text = mlflow.artifacts.load_text(f"runs:/{run_id}/failure/traceback.txt")
        assert text == "Traceback ..."
    else:
        assert not [tag for tag in run.tags if tag.startswith("failure")]


def test_a_run_that_has_ended_keeps_its_status(tracking, client, interrupted, project):
    client.set_terminated(interrupted, "FAILED")
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert found(project).status == "FAILED"
    assert "failure.error" not in found(project).tags and files(project) == []


def test_a_live_run_is_left_alone(tracking, client, project, tmp_path):
    run_id = client.create_run("0").info.run_id
    entry = tracking.recovery.PendingRun(project, uri(), "0", run_id)
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    copy = shutil.copytree(project, tmp_path / "copy")
    tracking.recovery.finish_interrupted_runs(copy, uri(), None)
    assert found(project).status == "RUNNING"
    entry.close()
    tracking.recovery.finish_interrupted_runs(copy, uri(), None)
    assert found(project).status == "RUNNING"  # copied files are ignored
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert found(project).status == "KILLED"


def test_a_run_that_this_process_joins_is_left_alone(tracking, interrupted, project):
    tracking.recovery.finish_interrupted_runs(project, uri(), interrupted)
    assert found(project).status == "RUNNING" and files(project) == [interrupted]


def test_a_run_of_another_store_waits_for_it(tracking, interrupted, project):
    shutil.copy(project / "mlflow.db", project / "other.db")
    tracking.recovery.finish_interrupted_runs(
        project, f"sqlite:///{project}/other.db", None
    )
    assert found(project).status == "RUNNING" and files(project) == [interrupted]
    moved = project.rename(project.parent / "moved")
    tracking.config.configure({}, moved)
    tracking.recovery.finish_interrupted_runs(moved, uri(), None)
    assert found(moved).status == "KILLED" and files(moved) == []


def test_what_runs_below_a_killed_run_ends_with_it(tracking, client, interrupted):
    below = client.create_run("0", tags={"mlflow.parentRunId": interrupted})
    tracking.recovery.finish_interrupted_runs(Path.cwd() / "iris-flowers", uri(), None)
    assert client.get_run(below.info.run_id).info.status == "KILLED"
    assert client.get_run(interrupted).info.status == "KILLED"


@pytest.mark.parametrize("unsure", [False, True])
def test_a_run_that_may_have_a_duplicate_ends_it(unsure, tracking, client, project):
    pending = tracking.recovery.PendingRun(project, uri(), "0")
    tags = {"creation.id": pending.creation}
    duplicate = client.create_run("0", tags=tags).info.run_id
    run_id = client.create_run("0", tags=tags).info.run_id
    pending.set_run(run_id)
    pending.set_unsure(unsure)
    pending.set_final_status("FINISHED")
    pending.close()
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert client.get_run(run_id).info.status == "FINISHED"
    status = client.get_run(duplicate).info.status
    assert status == ("KILLED" if unsure else "RUNNING")


def test_a_process_that_dies_before_it_knows_its_run(tracking, client, project):
    """The store has created the run, and its answer never came."""
    pending = tracking.recovery.PendingRun(project, uri(), "0")
    tags = {"creation.id": pending.creation}
    created = [client.create_run("0", tags=tags).info.run_id for _ in range(2)]
    client.create_run("0", tags={"creation.id": "another"})
    pending.close()
    assert files(project) == [pending.creation]
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert {client.get_run(run).info.status for run in created} == {"KILLED"}
    assert found(project).tags["failure.error"] == "the process died"
    assert [run.status for run in recorded(project)].count("RUNNING") == 1
    assert files(project) == []


def test_a_process_that_dies_before_its_run_is_created(tracking, client, project):
    tracking.recovery.PendingRun(project, uri(), "0").close()
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert recorded(project) == [] and files(project) == []


def test_a_run_that_is_gone_leaves_no_file(tracking, client, project):
    tracking.recovery.PendingRun(project, uri(), "0", "0" * 32).close()
    deleted = client.create_run("0").info.run_id
    tracking.recovery.PendingRun(project, uri(), "0", deleted).close()
    client.delete_run(deleted)
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert files(project) == []


def test_files_of_others_in_the_folder_are_left_alone(tracking, client, project):
    folder = project / ".runs"
    folder.mkdir()
    (folder / "text.db").write_text("not a database, but long enough to be read" * 9)
    sqlite3.connect(folder / "empty.db").close()
    (folder / "note.txt").write_text("mine")
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert sorted(path.name for path in folder.iterdir()) == [
        "empty.db",
        "note.txt",
        "text.db",
    ]


def test_the_rest_waits_when_there_is_no_more_time(
    tracking, interrupted, project, monkeypatch
):
    monkeypatch.setattr(tracking.recovery, "MAX_SECONDS", -1)  # seconds
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert found(project).status == "RUNNING" and files(project) == [interrupted]


@pytest.fixture
def remote(module, server, project) -> str:
    """Return the id of an interrupted run on the server."""
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    module("tracking.config").configure({}, project)
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    module("tracking.recovery").PendingRun(project, uri(), "0", run_id).close()
    return run_id


@pytest.mark.slow
def test_a_store_that_fails_is_told_at_the_next_start(
    tracking, remote, server, project, messages
):
    server.break_next("GET runs/get", 401)
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    (said,) = messages
    assert said.startswith(f"Run {remote} could not be finished: ")
    assert files(project) == [remote]
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    (run,) = recorded(server.folder, "server.db")
    assert run.status == "KILLED" and files(project) == []


def test_a_failure_that_is_refused_keeps_no_run_open(
    tracking, remote, server, project, messages
):
    server.break_next("POST runs/log-batch", 413)
    tracking.recovery.finish_interrupted_runs(project, uri(), None)
    assert messages[0].startswith(f"Run {remote} lacks its failure: ")
    (run,) = recorded(server.folder, "server.db")
    assert run.status == "KILLED" and files(project) == []


# -- Runs that are created: one, whatever happens to the answer


def states(server) -> list[tuple[str, str]]:
    """Return status and stage of all runs of a server, oldest first."""
    query = "SELECT status, lifecycle_stage FROM runs ORDER BY start_time, rowid"
    with sqlite3.connect(server.folder / "server.db") as db:
        return db.execute(query).fetchall()


def create(tracking, project: Path, **tags: str):
    """Create a run; return it and the file by which it is recovered."""
    pending = tracking.recovery.PendingRun(project, uri(), "0")
    return tracking.recovery.create_run(pending, "0", tags), pending


def test_a_run_is_opened(tracking, on_server, server, project):
    run, _ = create(tracking, project, a="b")
    assert mlflow.active_run().info.run_id == run.info.run_id
    assert run.data.tags["a"] == "b" and run.data.tags["creation.id"]
    assert os.environ["MLFLOW_EXPERIMENT_ID"] == "0"
    assert tracking.environment.user_env("MLFLOW_EXPERIMENT_ID") is None
    assert states(server) == [("RUNNING", "active")]


def test_a_creation_whose_answer_is_lost_is_found_again(
    tracking, on_server, server, project
):
    server.break_next("POST runs/create", "lost")
    run, pending = create(tracking, project)
    assert not pending.unsure
    assert states(server) == [("RUNNING", "active")]


def test_a_creation_that_is_done_late_leaves_no_second_run(
    tracking, on_server, server, project
):
    server.break_next("POST runs/create", "later")
    run, pending = create(tracking, project)
    assert pending.unsure
    server.do_the_rest()
    assert len(states(server)) == 2
    mlflow.end_run()
    tracking.recovery.end_orphan_runs(run.info.run_id)
    assert sorted(states(server)) == [("FINISHED", "active"), ("KILLED", "deleted")]


def test_a_duplicate_with_metrics_is_killed_and_stays(tracking, client):
    run, duplicate = (
        client.create_run("0", tags={"creation.id": "a"}) for _ in range(2)
    )
    client.log_metric(duplicate.info.run_id, "accuracy", 1)
    tracking.recovery.end_orphan_runs(run.info.run_id)
    duplicate = client.get_run(duplicate.info.run_id)
    assert (duplicate.info.status, duplicate.info.lifecycle_stage) == (
        "KILLED",
        "active",
    )
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_duplicate_that_its_user_may_not_delete(
    tracking, on_server, server, messages
):
    duplicate = on_server.create_run("0", tags={"creation.id": "a"})
    server.break_next("POST runs/delete", 403)
    tracking.recovery.end_runs("0", "tags.`creation.id` = 'a'")
    assert states(server) == [("KILLED", "active")]
    assert messages[0].startswith(f"Run {duplicate.info.run_id} stays, as KILLED")


@pytest.mark.parametrize("died", [False, True])
def test_what_runs_below_a_run_ends_with_it(died, tracking, client):
    parent = client.create_run("0")
    below = {"mlflow.parentRunId": parent.info.run_id}
    candidate = client.create_run("0", tags=below | {"creation.id": "b"}).info.run_id
    other = client.create_run("0", tags=below).info.run_id
    tracking.recovery.end_orphan_runs(parent.info.run_id, every_child=died)
    assert client.get_run(candidate).info.status == "KILLED"
    assert client.get_run(other).info.status == ("KILLED" if died else "RUNNING")
    assert client.get_run(parent.info.run_id).info.status == "RUNNING"
