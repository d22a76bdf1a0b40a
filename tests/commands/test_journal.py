"""What this folder owes to its runs, and what is never written anywhere."""

import importlib
import os
import shutil
import signal
import sys
import time

import pytest
from runs import PACKAGE, command, recorded, start


@pytest.fixture
def store(generated, monkeypatch):
    """Return the module ``tracking.store`` of a generated project."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(generated / "src")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder is shared
    before = dict(os.environ)
    yield importlib.import_module(f"{PACKAGE}.tracking.store")
    os.environ.clear()
    os.environ.update(before)
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


MASKED = {
    "http://me:secret@host/api": "http://***@host/api",
    "http://me:sec/ret@host:5000 said no": "http://***@host:5000 said no",
    "postgresql+psycopg2://u:p@ss@h/db": "postgresql+psycopg2://***@h/db",
    "mysql://host/db?user=me&password=secret": "mysql://host/db?user=***&password=***",
    "'sqlite:///a b.db' and nothing else": "'sqlite:///a b.db' and nothing else",
    "token=abc, api_key=def": "token=***, api_key=***",
}


@pytest.mark.parametrize("text, shown", MASKED.items())
def test_credentials_of_addresses_are_masked(store, text, shown):
    assert store.mask(text) == shown


def test_credentials_of_variables_are_masked_wherever_they_stand(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a+b(c")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:p%40ss@host")
    said = store.mask("hunter2 in 'a+b(c', p@ss and p%40ss, but not in hunter22")
    assert said == "*** in '***', *** and ***, but not in hunter22"


def start_waiting(bin_, project, **changes: str):
    """Start a pipeline in a project and return when its node is at work."""
    words, env = command("sequential", bin_, project)
    env |= {"BEHAVIOUR": "wait", **changes}
    process = start(*words, cwd=project, **env)
    deadline = time.monotonic() + 120
    while not (project / "data" / "ready").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    (project / "data" / "ready").unlink()
    return process


def test_a_live_run_is_touched_neither_from_its_folder_nor_from_a_copy(
    life, kedro, bin_, tmp_path
):
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{life / 'mlflow.db'}"}
    process = start_waiting(bin_, life, **shared)
    copy = shutil.copytree(life, tmp_path / "copy")
    part = "--pipelines=data_engineering"
    kedro("run", part, cwd=life, **shared)
    kedro("run", part, cwd=copy, **shared)
    assert recorded(life)[0].status == "RUNNING"
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kedro("run", part, cwd=copy, **shared)
    assert recorded(life)[0].status == "RUNNING"  # a copied file counts for nothing
    kedro("run", part, cwd=life, **shared)
    assert recorded(life)[0].status == "KILLED"
    assert recorded(life)[0].tags["failure.error"] == "the process died"
    assert not list((life / ".runs").glob("*.db"))


def test_a_run_that_is_killed_below_another(life, kedro, bin_):
    process = start_waiting(bin_, life, BEHAVIOUR="wait below")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [one.status for one in recorded(life)] == ["RUNNING"] * 2
    kedro("run", "--pipelines=data_engineering", cwd=life)
    assert [r.status for r in recorded(life)] == ["KILLED", "KILLED", "FINISHED"]


def test_a_folder_that_cannot_be_written_costs_one_line(life, kedro):
    (life / ".runs").write_text("not a folder")
    done = kedro("run", "--pipelines=data_engineering", cwd=life, COLUMNS="300")
    said = done.stdout + done.stderr
    assert "WARNING  Cannot write in" in said and "RUNNING for ever" in said
    assert [one.status for one in recorded(life)] == ["FINISHED"]


def test_what_is_owed_to_another_store_waits_for_it(life, kedro, bin_):
    process = start_waiting(bin_, life)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    part = "--pipelines=data_engineering"
    other = {"MLFLOW_TRACKING_URI": f"sqlite:///{life / 'other.db'}"}
    shutil.copy(life / "mlflow.db", life / "other.db")
    kedro("run", part, cwd=life, **other)
    assert recorded(life)[0].status == "RUNNING"
    moved = life.rename(life.parent / "moved")
    kedro("run", part, cwd=moved)
    assert recorded(moved)[0].status == "KILLED"


def test_credentials_are_taken_out_of_the_address(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%2Fss@host:5000/path")
    store.configure({}, tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/path"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p/ss"
    assert store.chosen("MLFLOW_TRACKING_URI") == "https://host:5000/path"
    store.configure({"tracking_uri": "sqlite:///other.db"}, tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/path"
