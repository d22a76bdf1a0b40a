"""``tracking.commands.counts``: what is sent and what arrives are compared."""

from collections import Counter

import pytest


@pytest.fixture
def project(project_with_children):
    """Return a project with child runs; MLflow is led to its store."""
    return project_with_children


def test_counts_are_told_in_words(tracking):
    said = tracking.commands.counts.in_words
    assert said(Counter({"runs": 1, "models": 0, "files": 1200})) == (
        "1 run, 1,200 files"
    )
    assert said(Counter()) == "nothing"


def test_a_record_holds_as_much_as_the_run_in_the_store(
    tracking, project, parent_run, tmp_path
):
    commands, run = tracking.commands, parent_run
    stored = commands.counts.in_store(run.info.run_id)
    about = commands.export.read_record(run, tmp_path / "record", project, False)
    found = commands.record.parse_record(about, tmp_path / "record")
    assert commands.counts.in_records([found]) == stored
    assert (stored["runs"], stored["child runs"], stored["models"]) == (1, 3, 1)
    assert stored["metric values"] == len(run.data.metrics) + 3 * 5
    assert stored["parameters"] == len(run.data.params) + 3
    (found.folder / "child1" / "artifacts" / "notes" / "note.txt").unlink()
    lost = stored - commands.counts.in_records([found])
    assert commands.counts.in_words(lost) == "1 file"
