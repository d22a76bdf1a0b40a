"""``tracking.file_notes``: which run uses a file, and which has written it."""

import json

import pytest


@pytest.fixture
def notes(module):
    return module("tracking.file_notes")


@pytest.fixture
def hold(module):
    """Return a function that locks files for a run."""

    def lock(*writes, run_id: str = ""):
        locks = module("tracking.data_locks").DataLocks(writes, [], [])
        locks.acquire(0)
        if run_id:
            locks.name_run(run_id)
        return locks

    return lock


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "model.pkl"


def test_the_note_says_which_run_has_written_a_file(notes, hold, file):
    assert notes.writing_run(file) is None
    first = hold(file, run_id="a" * 32)
    file.write_text("new")
    assert notes.resolve(file) in first.written()
    first.release()
    assert notes.writing_run(file) == "a" * 32
    hold(file, run_id="b" * 32).release()  # which does not write it
    assert notes.writing_run(file) == "a" * 32
    file.write_text("by hand")
    assert notes.writing_run(file) == "changed since run " + "a" * 32


def test_a_run_that_was_never_opened_leaves_the_notes_as_they_were(notes, hold, file):
    first = hold(file, run_id="a" * 32)
    file.write_text("new")
    first.release()
    hold(file).release()
    assert notes.writing_run(file) == "a" * 32
    assert "holder" not in json.loads(notes.note_file(file).read_text())


def test_versioned_files_are_noted_without_a_lock(notes, hold, tmp_path):
    file = tmp_path / "model.pkl" / "2026-01-01" / "model.pkl"
    file.parent.mkdir(parents=True)
    file.write_text("a version")
    hold(run_id="a" * 32).release([file])
    assert notes.writing_run(file) == "a" * 32
