"""``tracking.commands.export``: a run is read, without what belongs to one machine."""

import json
from pathlib import Path

import mlflow
import pytest


@pytest.fixture
def project(project_with_children) -> Path:
    """Return a project with child runs; MLflow is led to its store."""
    return project_with_children


def test_what_belongs_to_one_machine_stays_there(
    tracking, project, parent_run, tmp_path
):
    user, folder = parent_run.data.tags["mlflow.user"], tmp_path / "record"
    about = tracking.commands.export.read_record(
        parent_run, folder, project, with_user=False
    )
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"run.json", "iris.csv", "model.skops", "note.txt"} <= names
    texts = [file.read_text("utf-8", "ignore") for file in files]
    said = json.dumps(about) + "".join(texts)
    for told in (str(tmp_path), str(Path.home()), "mlflow.user"):
        assert told not in said
    for field in (
        tracking.commands.export.STORE_FIELDS | tracking.commands.record.STORE_LINK_TAGS
    ):
        assert f'"{field}"' not in json.dumps(about)
    with_user = tracking.commands.export.read_record(
        mlflow.get_run(parent_run.info.run_id), tmp_path / "with", project, True
    )
    tags = {tag["key"]: tag["value"] for tag in with_user["run"]["data"]["tags"]}
    assert tags["mlflow.user"] == user


def test_a_run_that_has_not_ended_is_not_read(
    tracking, command_error, project, tmp_path
):
    with mlflow.start_run() as run:
        with pytest.raises(command_error, match="has not ended yet"):
            tracking.commands.export.read_record(
                run, tmp_path / "record", project, False
            )


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
    assert tracking.commands.export.make_portable(text, project) == shown
    assert tracking.commands.export.make_portable({"a": [text]}, project) == {
        "a": [shown]
    }


def test_fields_of_one_store_and_secrets_are_left_out(tracking):
    tags = [{"key": "token", "value": "hunter2"}, {"key": "a", "value": "b"}]
    found = {"user_id": "me", "tags": tags, "list": ["user_id"]}
    assert tracking.commands.export.make_portable(found, Path("/p")) == {
        "tags": [{"key": "token", "value": "***"}, {"key": "a", "value": "b"}],
        "list": ["user_id"],
    }
