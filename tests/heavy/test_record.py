"""A run goes to another machine, and is replayed in an environment of its own."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from recipes import ask
from run_contents import run_contents
from runs import PACKAGE, answer, build_environment, git, path_of, recorded, run, start

PART = "--pipelines=data_engineering"
FLOWER = {
    "sepal_length": 5.1,
    "sepal_width": 3.5,
    "petal_length": 1.4,
    "petal_width": 0.2,
}


def test_a_run_goes_to_another_machine(
    project_in_git, kedro, bin_, tmp_path, empty_store
):
    mine, file = project_in_git, tmp_path / "run.zip"
    kedro("run", "--params=model_options.C=0.5")
    (old,) = recorded(mine)
    kedro("share", old.id, "-o", file)
    # Another folder, another environment, another interpreter where there is one.
    theirs = tmp_path / "their machine" / "clone"
    git(tmp_path, "clone", "--quiet", str(mine), str(theirs))
    other = "/usr/bin/python3"
    python = other if Path(other).exists() else str(bin_ / "python")
    bin2 = tmp_path / "environment2"
    bin2 = build_environment(bin2, "-r", theirs / "requirements.txt", python=python)
    shutil.copy(empty_store, theirs / "mlflow.db")

    def their_kedro(*words, ok=True):
        env = {"PATH": path_of(bin2), "COLUMNS": "300"}
        return run(bin2 / "kedro", *words, cwd=theirs, ok=ok, **env)

    done = their_kedro("receive", file, "--register")
    assert f"Its model is models:/{PACKAGE}/1." in done.stdout
    (new,) = recorded(theirs)
    here, there = (
        run_contents(f"sqlite:///{folder}/mlflow.db", found.id)
        for folder, found in ((mine, old), (theirs, new))
    )
    assert there == here
    assert ask(bin2, theirs, [FLOWER], uri=f"models:/{PACKAGE}/1") == ["setosa"]
    replayed = their_kedro("replay", new.id, "--trust", ok=False)
    assert answer(replayed)[-1] == "equal", replayed.stdout + replayed.stderr


def test_a_replay_in_an_environment_of_the_recorded_packages(project_in_git, kedro):
    kedro("run", PART)
    (old,) = recorded(project_in_git)
    done = kedro("replay", old.id, "--env-manager=uv")
    assert answer(done)[-1] == "equal"
    _, new = recorded(project_in_git)
    assert new.tags["python.executable"] != old.tags["python.executable"]
    environment = project_in_git / "mlruns" / PACKAGE / old.id / "artifacts/environment"
    (environment / "packages.txt").write_text("pandas==0.0.0.0.1\n")
    done = kedro("replay", old.id, "--env-manager=uv", ok=False)
    assert done.returncode == 2
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    assert "The packages cannot be had" in last and "pandas" in last
    assert len(recorded(project_in_git)) == 2


@pytest.fixture
def many_runs(project_in_git, kedro) -> dict[str, int]:
    """Add 400 runs to the project's, of which some have child runs; count them all."""
    kedro("run")
    client = MlflowClient(f"sqlite:///{project_in_git}/mlflow.db")
    (trained,) = recorded(project_in_git)
    where = client.get_run(trained.id).info.experiment_id

    def add(number: int, **tags: str) -> str:
        run_id = client.create_run(where, None, tags, f"run {number}").info.run_id
        values = [Metric("loss", 1 / (step + number), 1, step) for step in range(1, 4)]
        client.log_batch(run_id, values, [Param("number", str(number))])
        client.log_text(run_id, f"note {number}", "notes/note.txt")
        client.set_terminated(run_id, "FAILED" if number % 7 == 0 else "FINISHED")
        return run_id

    for number in range(400):
        run_id = add(number)
        if number % 20 == 0:
            add(number, **{"mlflow.parentRunId": run_id})
    return {"runs": 401, "child runs": 20, "models": 1}


def test_many_runs_arrive_all_and_once_also_after_an_interruption(
    many_runs, project_in_git, kedro, bin_, tmp_path, empty_store
):
    mine, file = project_in_git, tmp_path / "runs.zip"
    said = ", ".join(
        f"{count} {kind if count > 1 else kind[:-1]}"
        for kind, count in many_runs.items()
    )
    sent = answer(kedro("share", "--experiment", "-o", file))[-1]
    assert sent.startswith(f"In {file}: {said}, ")
    theirs = tmp_path / "theirs" / "clone"
    git(tmp_path, "clone", "--quiet", str(mine), str(theirs))
    shutil.copy(empty_store, theirs / "mlflow.db")

    def top_runs() -> dict[str, str]:
        """Return the runs that are here completely, by their ids there."""
        found = (
            run for run in recorded(theirs) if "mlflow.parentRunId" not in run.tags
        )
        complete = [run for run in found if "origin.incomplete" not in run.tags]
        assert len({run.tags["origin.run_id"] for run in complete}) == len(complete)
        return {run.tags["origin.run_id"]: run.id for run in complete}

    for enough in (30, 200):  # it is interrupted twice
        env = {"PATH": path_of(bin_)}
        process = start(bin_ / "kedro", "receive", file, cwd=theirs, **env)
        while len(top_runs()) < enough:
            assert process.poll() is None
            time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = len(top_runs())
    assert 200 <= before < 401
    received = answer(kedro("receive", file, cwd=theirs))[-1]
    counts = sent.removeprefix(f"In {file}: ").rstrip(".")
    assert received == f"All is there: {counts}. New: {401 - before} of 401."
    again = answer(kedro("receive", file, cwd=theirs))[-1]
    assert again == f"All is there: {counts}. New: 0 of 401."
    there = top_runs()
    here = {run.id for run in recorded(mine) if "mlflow.parentRunId" not in run.tags}
    assert there.keys() == here
    store = MlflowClient(f"sqlite:///{theirs}/mlflow.db")
    where = [experiment.experiment_id for experiment in store.search_experiments()]
    # What was half received is in the trash.
    found = store.search_runs(where, max_results=1000)
    parents = [run.data.tags.get("mlflow.parentRunId") for run in found]
    children = [parent for parent in parents if parent]
    assert len(found) == 421 and len(children) == 20
    assert set(children) <= set(there.values())
    for run_id in sorted(here)[::40]:
        assert run_contents(f"sqlite:///{mine}/mlflow.db", run_id) == run_contents(
            f"sqlite:///{theirs}/mlflow.db", there[run_id]
        )
