"""Paths, locks and links by the rules of Windows, as far as Python lets them be tried.

Windows neither replaces nor removes a file that another process has open, lets few
users make links, separates folders by backslashes, and has no ``source``.
"""

import importlib.util
import os
import sqlite3
from pathlib import Path, PureWindowsPath

import mlflow
import pytest

WINDOWS, POSIX = r"C:\Users\Ada Love\orders", "/home/ada love/orders"


@pytest.mark.parametrize(
    ("folder", "path", "uri"),
    [
        (WINDOWS, WINDOWS + "\\", "file:///C:/Users/Ada%20Love/orders/"),
        (POSIX, POSIX + "/", "file:///home/ada%20love/orders/"),
        (r"\\server\share\orders", "\\\\server\\share\\orders\\",
         "file://server/share/orders/"),
    ],
)  # fmt: skip
def test_addresses_begin_as_the_folders_system_writes_them(tracking, folder, path, uri):
    assert tracking.database.beginnings(folder) == (path, uri)


def test_a_store_from_windows_opens_here(tracking, project):
    """MLflow on Windows keeps addresses of artifacts as ``file:`` URIs."""
    tracking.config.configure({}, project)
    client = mlflow.MlflowClient()
    there = PureWindowsPath(WINDOWS)
    with tracking.client.verify_store(project):
        client.create_experiment("mine", (project / "mlruns" / "mine").as_uri())
        run = client.create_run(client.get_experiment_by_name("mine").experiment_id)
    with sqlite3.connect(project / "mlflow.db") as db:  # as if it had been made there
        old = (project.as_uri(), there.as_uri())
        for column, table in (("artifact_location", "experiments"),
                              ("artifact_uri", "runs")):  # fmt: skip
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", old)
        known = "UPDATE experiment_tags SET value = ? WHERE key = 'project.folder'"
        db.execute(known, [str(there)])
    with tracking.client.verify_store(project):
        client.log_text(run.info.run_id, "kept", "note.txt")
    kept = project / "mlruns" / "mine" / run.info.run_id / "artifacts" / "note.txt"
    assert kept.read_text() == "kept"


def test_the_file_of_a_sqlite_address_with_a_drive(tracking):
    found = tracking.database.sqlite_file("sqlite:///C:/Users/Ada/mlflow.db?timeout=3")
    assert PureWindowsPath(str(found)) == PureWindowsPath(r"C:\Users\Ada\mlflow.db")


def test_a_shared_run_names_no_folder_of_windows(module):
    hidden = module("tracking.commands.export").make_portable
    text = rf"cannot read {WINDOWS}\data\orders.csv"
    assert "Users" not in hidden(text.replace(" Love", ""), Path("/nowhere"))


class InUse:
    """Makes a function of ``Path`` fail as if another process had the file open."""

    def __init__(self, monkeypatch, name: str, times: int, suffix: str) -> None:
        self.left, original = times, getattr(Path, name)

        def refuse(path, *args, **kwargs):
            if self.left and path.name.endswith(suffix):
                self.left -= 1
                raise PermissionError(13, "in use by another process", str(path))
            return original(path, *args, **kwargs)

        monkeypatch.setattr(Path, name, refuse)


@pytest.mark.parametrize("name", ["replace", "read_text", "unlink"])
def test_notes_wait_for_others_who_read_them(module, tmp_path, monkeypatch, name):
    notes, file = module("tracking.file_notes"), tmp_path / "model.pkl"
    monkeypatch.setattr(notes, "SHARING_TRIES", 40)
    notes.write_note(file, {"written_by": {"run_id": "1" * 32}})
    suffix = "" if name == "replace" else ".json"
    in_use = InUse(monkeypatch, name, times=3, suffix=suffix)
    if name == "unlink":
        notes.write_note(file, {})
        assert not notes.note_file(file).exists()
    else:
        notes.write_note(file, {"written_by": {"run_id": "2" * 32}})
        assert notes.read_note(file)["written_by"]["run_id"] == "2" * 32
    assert in_use.left == 0
    beside = {entry.name for entry in notes.note_file(file).parent.iterdir()}
    assert beside <= {"model.pkl.json"}


def test_a_note_that_stays_in_use_stops_no_run(module, tmp_path, monkeypatch, messages):
    notes, file = module("tracking.file_notes"), tmp_path / "model.pkl"
    InUse(monkeypatch, "replace", times=1, suffix="")
    notes.write_note(file, {"written_by": {"run_id": "1" * 32}})
    assert "Cannot write" in messages[0]
    assert list(notes.note_file(file).parent.iterdir()) == []


def test_a_pending_file_that_another_start_reads_stays_for_the_next(
    tracking, project, monkeypatch
):
    tracking.config.configure({}, project)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    pending = tracking.recovery.PendingRun(project, uri, "0")
    run = mlflow.MlflowClient().create_run("0")
    pending.set_run(run.info.run_id)
    pending.set_final_status("FINISHED")
    mlflow.MlflowClient().set_terminated(run.info.run_id)
    InUse(monkeypatch, "unlink", times=1, suffix=".db")
    pending.close(done=True)
    assert pending.path.exists()
    tracking.recovery.finish_interrupted_runs(project, uri, None)
    assert not pending.path.exists()


def test_a_replay_copies_where_links_are_not_allowed(module, tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_or_copy = module("tracking.commands.checkout").link_or_copy
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.csv").write_text("a\n1\n")
    link_or_copy(tmp_path / "copy", tmp_path / "folder")
    link_or_copy(tmp_path / "copy.csv", tmp_path / "folder" / "data.csv")
    for copy in (tmp_path / "copy" / "data.csv", tmp_path / "copy.csv"):
        assert copy.read_text() == "a\n1\n" and not copy.is_symlink()


@pytest.fixture
def check(generated, monkeypatch):
    """Return ``check.py`` of the rendered project, on a PC."""
    spec = importlib.util.spec_from_file_location("check", generated / "check.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    monkeypatch.setattr(found, "WINDOWS", True)
    return found


def test_check_gives_addresses_with_slashes_and_commands_of_powershell(
    check, monkeypatch, capsys
):
    monkeypatch.setattr(check, "PROJECT", Slashes(check.PROJECT))
    assert "\\" not in check.configured_uri()
    assert "\\" not in check.exports()["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    monkeypatch.setattr(check, "which", lambda name: None)
    check.main()
    said = capsys.readouterr().out
    assert "$env:PATH = " in said
    assert "source " not in said and "export " not in said


class Slashes(type(Path())):
    """A path that is written with backslashes."""

    def __str__(self) -> str:
        return str(PureWindowsPath(self.as_posix()))

    def as_posix(self) -> str:
        return super().__str__()

    __fspath__ = as_posix
