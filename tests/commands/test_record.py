"""A run is replayed, compared, shared and received, as on two machines."""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
from recipes import ask
from runs import (
    AUTHOR,
    PACKAGE,
    build_environment,
    free_port,
    path_of,
    recorded,
    run,
    run_script,
    start,
    tracking_server,
)

PART = "--pipelines=data_engineering"
FLOWER = {
    **{"sepal_length": 5.1, "sepal_width": 3.5},
    **{"petal_length": 1.4, "petal_width": 0.2},
}


def git(project: Path, *words: str) -> str:
    return run("git", *AUTHOR, *words, cwd=project).stdout.strip()


@pytest.fixture
def kedro(kedro):
    """Return a function that runs ``kedro`` in a wide window: a message is a line."""
    return partial(kedro, COLUMNS="300")


@pytest.fixture
def mine(project_with_store) -> Path:
    """Return a project in git, with a store."""
    git(project_with_store, "init", "--quiet", "--initial-branch=main")
    git(project_with_store, "add", "--all")
    git(project_with_store, "commit", "--quiet", "--message=first")
    return project_with_store


def environment(project: Path, run_id: str) -> Path:
    """Return the artifacts that every run has."""
    return project / "mlruns" / PACKAGE / run_id / "artifacts" / "environment"


def last_line(done) -> str:
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def answer(done) -> list[str]:
    """Return the lines of a command, without Kedro's first ones about logging."""
    lines = done.stdout.splitlines()
    return [line for line in lines if not re.match(r"\[\d\d/|\s{20,}INFO", line)]


def test_a_run_knows_what_repeats_it(mine, kedro, bin_):
    git(mine, "remote", "add", "origin", "https://me:secret@host/team/iris.git")
    git(mine, "checkout", "--quiet", "-b", "topic")
    parameters = mine / "conf" / "base" / "parameters.yml"
    parameters.write_text(parameters.read_text() + "# changed\n")
    (mine / "new.py").write_text("new = 1\n")
    (mine / "picture.bin").write_bytes(bytes(range(256)))
    (mine / "ignored.db").write_text("ignored")
    (mine / "conf" / "base" / "credentials.yml").write_text("a: hunter2\n")
    local = mine / "conf" / "local" / "note.yml"
    local.write_text("a: hunter2\n")
    git(mine, "add", "--force", str(local))
    before = git(mine, "status", "--porcelain"), git(mine, "count-objects", "-v")
    given = "split_options.test_size=0.3,api_key=hunter2"
    kedro("run", PART, "--runner=ThreadRunner", f"--params={given}")
    (one,) = recorded(mine)
    assert one.tags["mlflow.source.git.branch"] == "topic"
    assert one.tags["mlflow.source.git.repoURL"] == "https://***@host/team/iris.git"
    assert one.tags["git.dirty"] == "true"
    shown = "--params=split_options.test_size=0.3,api_key=***"
    assert one.tags["kedro.command"] == (
        f"kedro run --env=local --runner=ThreadRunner {PART} '{shown}'"
    )
    folder = environment(mine, one.id)
    changes = (folder / "code.diff").read_text()
    files = re.findall(r"^diff --git a/(\S+)", changes, re.MULTILINE)
    assert files == ["conf/base/parameters.yml", "new.py", "picture.bin"]
    options = json.loads((folder / "run.json").read_text())["run"]
    assert options["params"]["split_options"] == {"test_size": 0.3}
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"hunter2" not in everything + json.dumps(one.tags).encode()
    assert before == (
        git(mine, "status", "--porcelain"),
        git(mine, "count-objects", "-v"),
    )
    python = f"--python={bin_ / 'python'}"
    synced = run(
        "uv", "pip", "sync", "--dry-run", python, folder / "packages.txt", cwd=mine
    )
    assert "Would make no changes" in synced.stderr


def test_large_and_secret_changes_are_left_out(mine, kedro):
    (mine / "large.bin").write_bytes(b"0" * 6_000_000)
    kedro("run", PART)
    (mine / "large.bin").unlink()
    (mine / "address.py").write_text("URI = 'postgresql://me:hunter2@host/db'\n")
    kedro("run", PART)
    large, secret = recorded(mine)
    assert large.tags["git.diff"] == "left out: it is over 5 MB"
    assert secret.tags["git.diff"].startswith("masked: ")
    assert "hunter2" not in (environment(mine, secret.id) / "code.diff").read_text()
    done = kedro("replay", secret.id, ok=False)
    assert done.returncode == 2 and "looks like credentials" in last_line(done)


def test_runs_at_a_glance_and_what_differs(mine, kedro, bin_):
    kedro("run", PART)
    (mine / "new.py").write_text("new = 1\n")
    kedro("run", PART, "--params=split_options.test_size=0.3")
    one, other = recorded(mine)
    inside = mine / "src" / PACKAGE
    shown = answer(kedro("runs", cwd=inside))
    commit = git(mine, "rev-parse", "--short=7", "HEAD")
    assert [line.split()[0] for line in shown[1:]] == [other.id[:8], one.id[:8]]
    assert shown[1].split()[3:] == ["data_engineering", "FINISHED", commit, "dirty"]
    assert len(answer(kedro("runs", "--last=1"))) == 2
    same = kedro("runs", "diff", one.id, one.id[:6])
    assert answer(same) == ["equal"]
    different = kedro("runs", "diff", one.id, other.id, cwd=inside, ok=False)
    assert different.returncode == 1
    assert [line.split()[:3] for line in answer(different)[1:]] == [
        ["parameters", "split_options.test_size", "0.2"],
        ["code", "diff", "none"],
    ]
    foreign = f"import mlflow\nmlflow.set_experiment('{PACKAGE}')\n"
    foreign += "with mlflow.start_run() as run: print(run.info.run_id)"
    foreign = run_script(foreign, bin_, mine, "caller's run").stdout.split()[-1]
    run(bin_ / "mlflow", "runs", "delete", "--run-id", one.id, cwd=mine)
    (environment(mine, other.id) / "run.json").unlink()
    for words, said in {
        ("runs", "diff", "f" * 32, other.id): f"No run {'f' * 32} at sqlite",
        ("share", "nonsense", "-o", "x.zip"): "No run nonsense",
        ("replay", one.id): f"Run {one.id} was deleted: `mlflow runs restore",
        ("replay", foreign): "it was not made by `kedro run`, or by an older version",
        ("replay", other.id): f"Run {other.id} does not say how to repeat it",
    }.items():
        done = kedro(*words, ok=False)
        assert done.returncode == 2 and said in last_line(done)
    address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
    done = kedro("runs", ok=False, **address)
    assert done.returncode == 2 and "start or repair that store" in last_line(done)


def test_a_replay_is_equal_and_touches_nothing(mine, kedro, bin_):
    (mine / "src" / PACKAGE / "extra.py").write_text("extra = 1\n")
    kedro("run", "--params=model_options.C=0.5")
    (old,) = recorded(mine)
    git(mine, "add", "--all")
    nodes = mine / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    nodes.write_text(nodes.read_text() + "raise RuntimeError('not this code')\n")
    git(mine, "commit", "--quiet", "--message=second")
    (mine / "data" / "08_reporting" / "metrics.json").write_text("mine")
    before = snapshot(mine)
    dry = kedro("replay", old.id, "--dry-run", cwd=mine / "src")
    assert len(recorded(mine)) == 1
    assert [line.split()[:2] for line in answer(dry)[1:]] == [
        ["code", "commit"],
        ["code", "diff"],
    ]
    done = kedro("replay", old.id[:8], cwd=mine / "src")
    assert answer(done)[-1] == "equal"
    assert snapshot(mine) == before
    _, new = recorded(mine)
    assert new.tags["replay.of"] == old.id and new.status == "FINISHED"
    assert (new.metrics, new.params) == (old.metrics, old.params)
    same = ("mlflow.source.git.commit", "git.diff", "kedro.command")
    assert [new.tags[name] for name in same] == [old.tags[name] for name in same]
    script = "import mlflow; print(len(mlflow.MlflowClient().search_model_versions()))"
    versions = run_script(script, bin_, mine, "caller's run").stdout.split()[-1]
    assert versions == "1"  # a replay registers nothing


def snapshot(project: Path) -> dict[str, bytes]:
    """Return the contents of a project, but for what tracking keeps in it."""
    kept = re.compile(
        r"mlruns/|mlflow\.db|\.runs/|.*__pycache__|\.git/(worktrees|index)"
    )
    found = (path for path in sorted(project.rglob("*")) if path.is_file())
    names = {path.relative_to(project).as_posix(): path for path in found}
    return {name: p.read_bytes() for name, p in names.items() if not kept.match(name)}


def test_a_run_made_outside_git_is_replayed_with_the_code_at_hand(
    project_with_store, kedro
):
    inner = (
        project_with_store / "src" / PACKAGE / "data"
    )  # not the data that are left out
    inner.mkdir()
    (inner / "__init__.py").touch()
    settings = project_with_store / "src" / PACKAGE / "settings.py"
    settings.write_text(settings.read_text() + f"\nimport {PACKAGE}.data  # noqa\n")
    kedro("run", PART)
    done = kedro("replay", recorded(project_with_store)[0].id)
    assert "today's code is used" in done.stdout
    assert answer(done)[-1] == "equal"


def test_a_replay_that_comes_out_otherwise_says_so(mine, kedro):
    kedro("run", "--params=split_options.random_state=null")
    done = kedro("replay", recorded(mine)[0].id, ok=False)
    assert (done.returncode, answer(done)[-1]) == (1, "different")


def test_a_replay_that_cannot_be_says_so_before_it_computes(mine, kedro):
    data = mine / "data" / "01_raw" / "iris.csv"
    git(mine, "rm", "--cached", "--quiet", str(data))
    ignore = mine / ".gitignore"
    ignore.write_text(ignore.read_text() + "*.csv\n")
    git(mine, "add", "--all")
    git(mine, "commit", "--quiet", "--message=data outside of git")
    kedro("run", PART)
    (old,) = recorded(mine)
    assert answer(kedro("replay", old.id))[-1] == "equal"
    data.write_text(data.read_text() + "5.1,3.5,1.4,0.2,setosa\n")
    done = kedro("replay", old.id, ok=False)
    gone = "An input is not here as it was: data/01_raw/iris.csv"
    assert done.returncode == 2 and gone in last_line(done)
    data.rename(data.with_suffix(".old"))
    done = kedro("replay", old.id, ok=False)
    assert done.returncode == 2 and gone in last_line(done)
    shutil.rmtree(mine / ".git")
    git(mine, "init", "--quiet")
    done = kedro("replay", old.id, ok=False)
    assert done.returncode == 2 and "is not in this repository: fetch it" in last_line(
        done
    )
    assert len(recorded(mine)) == 2


def test_a_replay_in_an_environment_of_the_recorded_packages(mine, kedro):
    kedro("run", PART)
    (old,) = recorded(mine)
    done = kedro("replay", old.id, "--env-manager=uv")
    assert answer(done)[-1] == "equal"
    assert recorded(mine)[1].tags["python.executable"] != old.tags["python.executable"]
    packages = environment(mine, old.id) / "packages.txt"
    packages.write_text("pandas==0.0.0.0.1\n")
    done = kedro("replay", old.id, "--env-manager=uv", ok=False)
    assert done.returncode == 2
    assert "The packages cannot be had" in last_line(done)
    assert "pandas" in last_line(done)
    assert len(recorded(mine)) == 2


def test_a_replay_that_is_terminated_leaves_nothing_behind(mine, kedro, bin_):
    kedro("run")
    (old,) = recorded(mine)
    ready = mine.parent / "ready"
    env = {"PATH": path_of(bin_), "BEHAVIOUR": "wait", "READY": str(ready)}
    process = start(bin_ / "kedro", "replay", old.id, cwd=mine, **env)
    deadline = time.monotonic() + 120
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(60)
    assert recorded(mine)[1].status == "KILLED"
    assert git(mine, "worktree", "list").count("\n") == 0


def everything(project: Path, database: str, bin_: Path) -> dict:
    """Return all that a store says of its latest run, its children and its models."""
    script = """
import hashlib, json, mlflow, pathlib
from mlflow.artifacts import download_artifacts

client = mlflow.MlflowClient()
ids = [found.experiment_id for found in client.search_experiments()]

def digests(uri):
    folder = pathlib.Path(download_artifacts(uri))
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    found.pop("MLmodel", None)
    return {n: hashlib.md5(p.read_bytes()).hexdigest() for n, p in found.items()}

def values(metrics):
    return sorted(str((m.key, m.value, m.timestamp, m.step)) for m in metrics)

def model(output):
    found = client.get_logged_model(output.model_id)
    measured = values(found.metrics or ())
    return [found.name, found.params, measured, digests(found.artifact_location)]

def about(run):
    info, data = run.info, run.data
    history = [client.get_metric_history(info.run_id, name) for name in data.metrics]
    own = f"tags.`mlflow.parentRunId` = '{info.run_id}'"
    return {
        "info": [info.run_name, info.status, info.start_time, info.end_time],
        "params": data.params,
        "tags": data.tags,
        "metrics": values(sum(history, [])),
        "data": run.inputs.to_dictionary()["dataset_inputs"],
        "files": client.list_artifacts(info.run_id) and digests(info.artifact_uri),
        "models": sorted(map(model, run.outputs.model_outputs), key=str),
        "children": [about(child) for child in client.search_runs(ids, own)],
    }

runs = client.search_runs(ids, order_by=["attributes.start_time DESC"])
tops = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
print(json.dumps(about(tops[0])))
"""
    address = database if database.startswith("http") else f"sqlite:///{database}"
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": address}
    done = run(bin_ / "python", "-c", script, cwd=project, **env)
    return json.loads(done.stdout.splitlines()[-1])


def without_origin(about: dict) -> dict:
    """Leave out what a copy has of its own, or does not take along."""
    left = re.compile(r"origin\.|mlflow\.(user|source\.name|parentRunId)|python\.exec")
    tags = {k: v for k, v in about["tags"].items() if not left.match(k)}
    data = [entry["dataset"] | {"source": ""} for entry in about["data"]]
    children = sorted(map(without_origin, about["children"]), key=str)
    return about | {"tags": tags, "data": data, "children": children}


CHILDREN = """
    for number in range(3):
        with mlflow.start_run(nested=True, run_name=f"child {number}"):
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_text("a note", "notes/note.txt")
"""


@pytest.fixture
def with_children(mine) -> Path:
    """Return a project whose training has child runs."""
    nodes = mine / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = make_pipeline(")
    nodes.write_text(head + CHILDREN.lstrip("\n") + mark + tail)
    return mine


def test_a_run_goes_to_another_machine(
    with_children, kedro, bin_, tmp_path, empty_store
):
    mine, file = with_children, tmp_path / "run.zip"
    kedro("run", "--params=model_options.C=0.5")
    old = [run for run in recorded(mine) if "kedro.run_id" in run.tags][0]
    kedro("share", old.id, "-o", file, cwd=mine / "conf")
    with zipfile.ZipFile(file) as made:
        packed = b"".join(made.read(name) for name in made.namelist())
    for told in (str(tmp_path), str(bin_), str(Path.home()), '"mlflow.user"'):
        assert told.encode() not in packed
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
    here, there = (
        everything(folder, str(folder / "mlflow.db"), bin2) for folder in (mine, theirs)
    )
    assert without_origin(there) == without_origin(here)
    assert len(there["children"]) == 3
    assert there["tags"]["origin.run_id"] == old.id
    assert "already is" in their_kedro("receive", file).stdout
    assert len(recorded(theirs)) == 4
    assert ask(bin2, theirs, [FLOWER], uri=f"models:/{PACKAGE}/1") == ["setosa"]
    new = [run for run in recorded(theirs) if "kedro.run_id" in run.tags][0]
    refused = their_kedro("replay", new.id, ok=False)
    assert refused.returncode == 2 and "was received" in last_line(refused)
    replayed = their_kedro("replay", new.id, "--trust", ok=False)
    assert answer(replayed)[-1] == "equal", replayed.stdout + replayed.stderr


def test_a_run_goes_to_a_server_and_back(
    with_children, kedro, bin_, tmp_path, empty_store
):
    mine, file, folder = with_children, tmp_path / "run.zip", tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "server.db")
    kedro("run")
    old = [run for run in recorded(mine) if "kedro.run_id" in run.tags][0]
    with tracking_server(bin_, folder, free_port()) as (url, _):
        to = url.replace("//", "//me:hunter2@")
        done = kedro("share", old.id, "--to", to)
        assert "hunter2" not in done.stdout + done.stderr
        assert "already is" in kedro("share", old.id, "--to", url).stdout
        at_server = everything(mine, url, bin_)
        there = {"MLFLOW_TRACKING_URI": url}
        listed = answer(kedro("runs", **there))
        kedro("share", listed[1].split()[0], "-o", file, **there)
    back = shutil.copytree(
        mine, tmp_path / "back", ignore=shutil.ignore_patterns("mlruns")
    )
    shutil.copy(empty_store, back / "mlflow.db")
    kedro("receive", file, cwd=back)
    before, after = (
        everything(place, str(place / "mlflow.db"), bin_) for place in (mine, back)
    )
    assert without_origin(at_server) == without_origin(before)
    assert without_origin(after) == without_origin(before)
    assert after["tags"]["origin.run_id"] == old.id


def test_a_receiver_killed_half_way_leaves_no_run_and_the_next_completes_it(
    with_children, kedro, bin_, tmp_path, empty_store
):
    mine, file = with_children, tmp_path / "run.zip"
    kedro("run")
    old = [run for run in recorded(mine) if "kedro.run_id" in run.tags][0]
    kedro("share", old.id, "-o", file)
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
        assert db.execute(query).fetchone() == (2,)
    assert [len(line.split()) for line in answer(kedro("runs"))[1:]] == [8]


def test_a_refused_file_leaves_no_store(project, kedro, tmp_path):
    (tmp_path / "bad.zip").write_text("hello")
    done = kedro("receive", tmp_path / "bad.zip", ok=False)
    assert done.returncode == 2 and "bad.zip is refused: " in last_line(done)
    assert not (project / "mlflow.db").exists() and not (project / "mlruns").exists()
