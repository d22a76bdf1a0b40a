"""A run goes to another machine, and is replayed in an environment of its own."""

import shutil
from pathlib import Path

from recipes import ask
from run_contents import run_contents
from runs import PACKAGE, answer, build_environment, git, path_of, recorded, run

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
