"""``tracking.pending_runs``: the files of runs that are not known to have ended."""

import os


def uri() -> str:
    return os.environ["MLFLOW_TRACKING_URI"]


def test_a_run_that_ends_well_leaves_no_file(tracking, client, project):
    entry = tracking.pending_runs.PendingRun(project, uri(), "0", "a")
    assert entry.path.exists()
    entry.set_final_status("FINISHED")
    entry.close(done=True)
    assert not entry.path.exists()
    entry.close(done=True)  # a second time does no harm


def test_addresses_are_compared_without_credentials(tracking, client, project):
    assert (
        tracking.pending_runs.store_key("http://me:secret@host/", project)
        == "http://***@host"
    )
    assert tracking.pending_runs.store_key(uri(), project) == "sqlite:///./mlflow.db"
    run_id = client.create_run("0").info.run_id
    entry = tracking.pending_runs.PendingRun(
        project, "http://me:secret@host", "0", run_id
    )
    entry.close()
    assert b"secret" not in (project / ".runs" / f"{run_id}.db").read_bytes()


def test_a_folder_that_cannot_be_written_costs_one_line(tracking, project, messages):
    (project / ".runs").write_text("not a folder")
    entry = tracking.pending_runs.PendingRun(project, "sqlite:///mlflow.db", "0", "a")
    entry.set_final_status("FAILED")
    entry.set_failure({})
    entry.close(done=True)
    (said,) = messages
    assert said.startswith(f"Cannot write in {project / '.runs'}")
    assert "RUNNING for ever" in said


def test_a_file_that_cannot_be_changed_costs_one_line(tracking, project, messages):
    entry = tracking.pending_runs.PendingRun(project, "sqlite:///mlflow.db", "0", "a")
    entry._db.execute("DROP TABLE pending")
    entry.set_final_status("FAILED")
    (said,) = messages
    assert said.startswith(f"Cannot write all of {entry.path}")
    entry.close()
