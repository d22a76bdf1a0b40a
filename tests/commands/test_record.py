"""Whole commands of ``kedro``: runs, replay, share, receive."""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
import zipfile
from pathlib import Path

import pytest
from run_contents import run_contents
from runs import PACKAGE, answer, git, path_of, recorded, run, start

PART = "--pipelines=data_engineering"
CHILDREN = """
    for number in range(3):
        with mlflow.start_run(nested=True, run_name=f"child {number}"):
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_text("a note", "notes/note.txt")
"""


@pytest.fixture
def project_with_children(project_in_git) -> Path:
    """Return a project in git whose training has child runs; they are no commit."""
    pipelines = project_in_git / "src" / PACKAGE / "pipelines"
    nodes = pipelines / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = make_pipeline(")
    nodes.write_text(head + CHILDREN.lstrip("\n") + mark + tail)
    return project_in_git


def last_line(done) -> str:
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def trained_run(project: Path):
    """Return the one run that Kedro has made."""
    (found,) = (run for run in recorded(project) if "kedro.run_id" in run.tags)
    return found


def test_a_run_is_listed_compared_and_says_what_was_installed(
    project_in_git, kedro, kedro_process, bin_
):
    inside = project_in_git / "src" / PACKAGE
    given = "--params=split_options.test_size=0.3"
    kedro("run", PART, "--runner=ThreadRunner", given)
    (one,) = recorded(project_in_git)
    assert one.tags["kedro.command"] == (
        f"kedro run --env=local --runner=ThreadRunner {PART} {given}"
    )
    header, line = answer(kedro("runs", cwd=inside))
    commit = git(project_in_git, "rev-parse", "--short=7", "HEAD")
    assert line.startswith(one.id[:8])
    assert line.split()[3:] == ["data_engineering", "FINISHED", commit]
    same = answer(kedro("runs", "diff", one.id, one.id[:6], cwd=inside))
    assert same[0] == "equal" and same[-1].startswith("Not compared: ")
    (told,) = json.loads(kedro_process("runs", "--format=json").stdout)
    assert (told["run_id"], told["status"]) == (one.id, "FINISHED")
    folder = project_in_git / "mlruns" / PACKAGE / one.id / "artifacts" / "environment"
    words = ("uv", "pip", "sync", "--dry-run", f"--python={bin_ / 'python'}")
    env = {"PATH": path_of(bin_)}
    synced = run(*words, folder / "packages.txt", cwd=project_in_git, **env)
    assert "Would make no changes" in synced.stderr
    done = kedro("replay", "nonsense", ok=False)
    assert done.returncode == 2 and "No run nonsense" in last_line(done)


def snapshot(project: Path) -> dict[str, bytes]:
    """Return the contents of a project, but for what tracking keeps in it."""
    kept = re.compile(
        r"mlruns/|mlflow\.db|\.runs/|.*__pycache__|\.git/(worktrees|index)"
    )
    found = (path for path in sorted(project.rglob("*")) if path.is_file())
    names = {path.relative_to(project).as_posix(): path for path in found}
    return {name: p.read_bytes() for name, p in names.items() if not kept.match(name)}


def test_a_replay_is_equal_and_touches_nothing(project_in_git, kedro):
    project, package = project_in_git, project_in_git / "src" / PACKAGE
    (package / "extra.py").write_text("extra = 1\n")
    kedro("run", "--params=model_options.C=0.5")
    (old,) = recorded(project)
    git(project, "add", "--all")
    nodes = package / "pipelines" / "data_science" / "nodes.py"
    nodes.write_text(nodes.read_text() + "raise RuntimeError('not this code')\n")
    git(project, "commit", "--quiet", "--message=second")
    (project / "data" / "08_reporting" / "metrics.json").write_text("mine")
    before = snapshot(project)
    dry = kedro("replay", old.id, "--dry-run", cwd=project / "src")
    assert len(recorded(project)) == 1
    assert [line.split()[:2] for line in answer(dry)[1:]] == [
        ["code", "commit"],
        ["code", "diff"],
    ]
    done = kedro("replay", old.id[:8], cwd=project / "src")
    assert answer(done)[-1] == "equal"
    assert snapshot(project) == before
    _, new = recorded(project)
    assert new.tags["replay.of"] == old.id and new.status == "FINISHED"
    assert (new.metrics, new.params) == (old.metrics, old.params)
    same = ("mlflow.source.git.commit", "git.diff", "kedro.command")
    assert [new.tags[name] for name in same] == [old.tags[name] for name in same]
    with sqlite3.connect(project / "mlflow.db") as db:  # a replay registers nothing
        assert db.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)


def test_a_run_made_outside_git_is_replayed_with_the_code_at_hand(
    project_with_store, kedro
):
    project = project_with_store
    inner = project / "src" / PACKAGE / "data"  # not the data that are left out
    inner.mkdir()
    (inner / "__init__.py").touch()
    settings = project / "src" / PACKAGE / "settings.py"
    settings.write_text(settings.read_text() + f"\nimport {PACKAGE}.data  # noqa\n")
    kedro("run", PART)
    done = kedro("replay", recorded(project)[0].id)
    assert "today's code is used" in done.stdout
    assert answer(done)[-1] == "equal"


def test_a_variation_may_register_and_says_what_has_come_of_it(project_in_git, kedro):
    project = project_in_git
    kedro("run", "--runner=ThreadRunner", "--runner-params=max_workers=2")
    (old,) = recorded(project)
    words = ("--params=model_options.C=0.01,split_options.random_state=1",)
    done = kedro("replay", f"models:/{PACKAGE}@champion", *words)
    _, new = recorded(project)
    shown = [line.split() for line in answer(done)]
    assert ["parameters", "model_options.C", "1.0", "0.01"] in shown
    accuracies = [repr(run.metrics["accuracy"]) for run in (old, new)]
    assert ["accuracy", *accuracies] in shown
    assert shown[-1] == ["promotion", "champion", "challenger"]
    assert new.tags["variation.of"] == old.id and "replay.of" not in new.tags
    assert new.tags["variation.by"] == words[0]
    assert "--runner-params=max_workers=2" in new.tags["kedro.command"]
    assert new.tags["kedro.runner"] == "ThreadRunner" and new.status == "FINISHED"
    with sqlite3.connect(project / "mlflow.db") as db:
        assert db.execute("SELECT count(*) FROM model_versions").fetchone() == (2,)
    failed = kedro("replay", new.id, "--params=model_options.C=-1", ok=False)
    assert failed.returncode == 2
    assert f"The variation has failed: run {recorded(project)[-1].id}." in failed.stderr


def test_a_replay_that_comes_out_otherwise_says_so(project_in_git, kedro):
    kedro("run", "--params=split_options.random_state=null")
    done = kedro("replay", recorded(project_in_git)[0].id, ok=False)
    assert (done.returncode, answer(done)[-1]) == (1, "different")


def test_a_replay_that_is_terminated_leaves_nothing_behind(
    project_in_git, kedro, bin_, tmp_path
):
    kedro("run")
    (old,) = recorded(project_in_git)
    ready = tmp_path / "ready"
    env = {"PATH": path_of(bin_), "BEHAVIOUR": "wait", "READY": str(ready)}
    process = start(bin_ / "kedro", "replay", old.id, cwd=project_in_git, **env)
    deadline = time.monotonic() + 120
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(60)
    assert recorded(project_in_git)[1].status == "KILLED"
    assert git(project_in_git, "worktree", "list").count("\n") == 0


def test_a_run_goes_to_another_folder_and_is_replayed_there(
    project_with_children, kedro, tmp_path, empty_store
):
    mine, file = project_with_children, tmp_path / "run.zip"
    kedro("run", "--params=model_options.C=0.5")
    old = trained_run(mine)
    kedro("share", old.id, "-o", file, cwd=mine / "conf")
    with zipfile.ZipFile(file) as made:
        packed = b"".join(made.read(name) for name in made.namelist())
    for told in (str(tmp_path), str(Path.home()), '"mlflow.user"'):
        assert told.encode() not in packed
    theirs = tmp_path / "their folder" / "clone"
    git(tmp_path, "clone", "--quiet", str(mine), str(theirs))
    shutil.copy(empty_store, theirs / "mlflow.db")
    done = kedro("receive", file, "--register", cwd=theirs)
    assert f"Its model is models:/{PACKAGE}/1." in done.stdout
    new = trained_run(theirs)
    here, there = (
        run_contents(f"sqlite:///{folder}/mlflow.db", found.id)
        for folder, found in ((mine, old), (theirs, new))
    )
    assert there == here and len(there["children"]) == 3
    assert new.tags["origin.run_id"] == old.id
    assert "already is" in kedro("receive", file, cwd=theirs).stdout
    assert len(recorded(theirs)) == 4
    refused = kedro("replay", new.id, cwd=theirs, ok=False)
    assert refused.returncode == 2 and "was received" in last_line(refused)
    # In a clone that has no store yet, straight from the file.
    (theirs / "mlflow.db").unlink()
    replayed = kedro("replay", file, "--trust", cwd=theirs)
    assert answer(replayed)[-1] == "equal"
    here = recorded(theirs)
    (received,) = (r.id for r in here if r.tags.get("origin.run_id") == old.id)
    assert [r.tags["replay.of"] for r in here if "replay.of" in r.tags] == [received]


def test_a_receiver_killed_half_way_leaves_no_run_and_the_next_completes_it(
    project_with_children, kedro, bin_, tmp_path, empty_store
):
    mine, file = project_with_children, tmp_path / "run.zip"
    kedro("run")
    kedro("share", trained_run(mine).id, "-o", file)
    shutil.rmtree(mine / "mlruns")
    shutil.copy(empty_store, mine / "mlflow.db")
    env = {"PATH": path_of(bin_)}
    process = start(bin_ / "kedro", "receive", file, cwd=mine, **env)
    while not recorded(mine):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = recorded(mine)
    assert left and all("origin.incomplete" in run.tags for run in left)
    assert "No runs yet" in answer(kedro("runs"))[-1]
    done = kedro("share", left[0].id, "-o", "x.zip", ok=False)
    assert "is half received" in last_line(done)
    kedro("receive", file)
    kedro("receive", file)
    with sqlite3.connect(mine / "mlflow.db") as db:
        query = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
        assert db.execute(query).fetchone() == (4,)
        query = "SELECT count(*) FROM logged_models WHERE lifecycle_stage = 'active'"
        assert db.execute(query).fetchone() == (1,)
    assert [len(line.split()) for line in answer(kedro("runs"))[1:]] == [8]
