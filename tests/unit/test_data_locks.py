"""``tracking.data_locks``: files in use."""

import logging
import os
import threading
import time

import pytest
from click import ClickException


@pytest.fixture
def locks(module):
    return module("tracking.data_locks")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "model.pkl"


def hold(locks, *writes, reads=(), joined=(), timeout=None, run_id="1" * 32):
    """Return locks that are held by a run."""
    made = locks.DataLocks(writes, reads, joined)
    made.acquire(timeout)
    made.name_run(run_id)
    return made


def in_thread(function):
    """Run a function in another thread; return the thread and its results."""
    found: list = []

    def call():
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, found


def refused(locks, *writes, **options):
    """Return what another thread is told that does not wait."""
    thread, found = in_thread(lambda: hold(locks, *writes, timeout=0, **options))
    thread.join(10)
    return found[0]


def test_a_second_writer_is_refused_at_once_and_told_by_whom(locks, file):
    first = hold(locks, file, run_id="a" * 32)
    error = refused(locks, file)
    assert isinstance(error, ClickException)
    assert f"model.pkl is in use by run {'a' * 32}, since " in error.message
    assert "versioned datasets" in error.message and "\n" not in error.message
    first.release()
    hold(locks, file, timeout=0).release()


def test_a_second_writer_waits_and_says_so_once(locks, file, caplog):
    caplog.set_level(logging.INFO)
    first = hold(locks, file)
    thread, found = in_thread(lambda: hold(locks, file, run_id="2" * 32))
    while "Waiting" not in caplog.text:
        time.sleep(0.01)
    time.sleep(3 * locks.POLL_SECONDS)
    assert thread.is_alive() and caplog.text.count("Waiting") == 1
    first.release()
    thread.join(10)
    found[0].release()


def test_it_waits_as_many_seconds_as_it_is_told(locks, file):
    first = hold(locks, file)
    start = time.monotonic()
    thread, found = in_thread(lambda: hold(locks, file, timeout=0.3))
    thread.join(10)
    assert isinstance(found[0], ClickException)
    assert time.monotonic() - start >= 0.3
    first.release()


def test_readers_share_a_file_that_a_run_has_written(locks, file):
    hold(locks, file).release()
    one = hold(locks, reads=[file])
    two = hold(locks, reads=[file], timeout=0)
    assert isinstance(refused(locks, file), ClickException)
    one.release()
    two.release()
    writer = hold(locks, file)
    assert isinstance(refused(locks, reads=[file]), ClickException)
    writer.release()


def test_a_file_that_no_run_has_written_is_not_locked_for_reading(locks, file):
    hold(locks, reads=[file])
    assert not file.parent.exists()


def test_another_file_is_free(locks, file):
    first = hold(locks, file)
    hold(locks, file.with_name("other"), timeout=0).release()
    first.release()


@pytest.mark.parametrize("way", ["link", "relative", "dots"])
def test_a_file_has_one_lock_by_whatever_name(locks, file, way, monkeypatch):
    file.parent.mkdir()
    (file.parent.parent / "link").symlink_to(file.parent)
    monkeypatch.chdir(file.parent)
    other = {
        "link": file.parent.parent / "link" / file.name,
        "relative": type(file)(file.name),
        "dots": file.parent / ".." / "data" / file.name,
    }[way]
    first = hold(locks, file)
    assert isinstance(refused(locks, other), ClickException)
    first.release()


def test_locks_taken_in_any_order_do_not_block_each_other(locks, tmp_path):
    files = [tmp_path / name for name in "abc"]

    def work():
        for _ in range(10):
            hold(locks, *files, timeout=60).release()
            files.reverse()

    started = [in_thread(work) for _ in range(4)]
    for thread, found in started:
        thread.join(60)
        assert found == [None]


def test_none_is_locked_where_one_is_refused(locks, tmp_path):
    first = hold(locks, tmp_path / "b")
    assert isinstance(refused(locks, tmp_path / "a", tmp_path / "b"), ClickException)
    hold(locks, tmp_path / "a", timeout=0).release()
    first.release()


def test_a_run_does_not_wait_for_the_run_that_it_joins(locks, file):
    first = hold(locks, file, run_id="a" * 32)
    thread, found = in_thread(lambda: hold(locks, file, joined=["a" * 32], timeout=0))
    thread.join(10)
    found[0].release()
    assert isinstance(refused(locks, file), ClickException)  # it is held still
    first.release()


def test_a_thread_does_not_wait_for_itself(locks, file):
    first = hold(locks, file)
    hold(locks, file, timeout=0, run_id="2" * 32).release()
    assert isinstance(refused(locks, file), ClickException)
    first.release()


def test_a_process_that_a_node_starts_does_not_wait_for_its_run(
    locks, file, monkeypatch
):
    first = hold(locks, file, run_id="a" * 32)
    assert os.environ[locks.HOLDERS_VARIABLE].endswith(":" + "a" * 32)
    monkeypatch.setattr(locks, "PROCESS_TOKEN", "another process")
    hold(locks, file, timeout=0).release()
    first.release()


def test_the_variable_for_processes_names_the_runs_that_are_under_way(locks, tmp_path):
    one = hold(locks, tmp_path / "a", run_id="a")
    two = hold(locks, tmp_path / "b", run_id="b")
    assert os.environ[locks.HOLDERS_VARIABLE].count(":") == 2
    one.release()
    assert os.environ[locks.HOLDERS_VARIABLE] == f"{locks.process_name()}:b"
    two.release()
    assert locks.HOLDERS_VARIABLE not in os.environ


def test_a_lock_dies_with_its_process(locks, file):
    reader, writer = os.pipe()
    if not (child := os.fork()):
        _held = hold(locks, file)  # a name, or it would be released at once
        os.write(writer, b".")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    with pytest.raises(ClickException, match="in use by run"):
        hold(locks, file, timeout=0)
    os.kill(child, 9)
    os.waitpid(child, 0)
    hold(locks, file, timeout=5).release()


def test_what_is_interrupted_while_it_waits_holds_nothing(locks, tmp_path, monkeypatch):
    first = hold(locks, tmp_path / "b")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(locks.time, "sleep", interrupt)
    monkeypatch.setattr(locks, "PROCESS_TOKEN", "another process")
    monkeypatch.delenv(locks.HOLDERS_VARIABLE)
    with pytest.raises(KeyboardInterrupt):
        hold(locks, tmp_path / "a", tmp_path / "b")
    hold(locks, tmp_path / "a", timeout=0).release()
    first.release()


def test_a_folder_that_cannot_hold_locks_costs_one_warning(locks, tmp_path, caplog):
    (tmp_path / locks.FOLDER).write_text("not a folder")
    hold(locks, tmp_path / "a", tmp_path / "b").release()
    warned = [r for r in caplog.records if "Cannot lock" in r.message]
    assert len(warned) == 1 and "would mix their data" in warned[0].message


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_a_damaged_note_says_nothing(locks, module, file, text):
    notes, first = module("tracking.file_notes"), hold(locks, file)
    notes.note_file(file).write_text(text)
    assert notes.writing_run(file) is None
    assert "in use by another run" in refused(locks, file).message
    first.release()


def test_the_time_to_wait_is_a_setting(locks, monkeypatch):
    assert locks.read_timeout({}) is None
    assert locks.read_timeout({"lock_timeout": 0}) == 0
    assert locks.read_timeout({"lock_timeout": "2.5"}) == 2.5
    monkeypatch.setenv("KEDRO_LOCK_TIMEOUT", "3")
    assert locks.read_timeout({"lock_timeout": 0}) == 3
    monkeypatch.setenv("KEDRO_LOCK_TIMEOUT", "soon")
    with pytest.raises(ClickException, match="is no number: 'soon'"):
        locks.read_timeout({})
