"""``tracking.replay``: all but the pipeline's own process, which the commands test."""

import json
import os
import re
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from kedro.framework.cli import project as kedro_cli
from mlflow import MlflowClient
from runs import PACKAGE, git, recorded
from sklearn.linear_model import LogisticRegression

DATA = "data/01_raw/iris.csv"
COMMIT = "mlflow.source.git.commit"
# What a pipeline's process leaves on the run that it was given.
STARTED = """
import json, os, sqlite3, sys
file = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
with sqlite3.connect(file) as db:
    for name, text in ("kedro.run_id", "now"), ("env", json.dumps(dict(os.environ))):
        db.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                   [name, text, os.environ["MLFLOW_RUN_ID"]])
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def trouble(module) -> type[Exception]:
    """Return the error that a command shows as one line."""
    return module("tracking.commands.project_runs").CommandError


@pytest.fixture
def project(trained_project) -> Path:
    """Return a project in git with one training; MLflow is led to its store."""
    return trained_project


@pytest.fixture
def old(project):
    """Return the run that is to be replayed."""
    return tagged(recorded(project)[0].id)


def tagged(run_id: str, **tags: str):
    """Return a run with more tags."""
    for name, text in tags.items():
        MlflowClient().set_tag(run_id, name, text)
    return mlflow.get_run(run_id)


def artifact(found, name: str) -> Path:
    """Return the file of what repeats a run."""
    return Path(found.info.artifact_uri) / "environment" / name


def log_diff(found, module, text: str):
    """Have a run record a change to its commit; return it."""
    artifact(found, "code.diff").write_text(text)
    digest = module("tracking.datasets").md5(text.encode())
    return tagged(found.info.run_id, **{"git.dirty": "true", "git.diff": digest})


# The options of then


def test_the_recorded_options_and_inputs_are_read(tracking, old):
    about = tracking.commands.reproduce.recorded_options(old, trust=False)
    assert about["run"] == {"env": "local"}
    assert about["inputs"].keys() == {DATA}


def test_a_run_without_options_cannot_be_replayed(tracking, trouble, old, project):
    artifact(old, "run.json").unlink()
    with mlflow.start_run() as foreign:
        pass
    for found in (old, foreign):
        said = f"Run {found.info.run_id} does not say how to repeat it: it was not made"
        with pytest.raises(trouble, match=said):
            tracking.commands.reproduce.recorded_options(found, trust=True)


def test_a_received_run_takes_trust(tracking, trouble, old):
    received = tagged(old.info.run_id, **{"origin.run_id": "0" * 32})
    with pytest.raises(trouble, match="was received.*in environment, then use --trust"):
        tracking.commands.reproduce.recorded_options(received, trust=False)
    assert tracking.commands.reproduce.recorded_options(received, trust=True)["inputs"]


def test_a_run_with_a_secret_parameter_cannot_be_replayed(tracking, trouble, old):
    written = json.dumps({"run": {"params": {"token": "***"}}, "inputs": {}})
    artifact(old, "run.json").write_text(written)
    with pytest.raises(trouble, match="had a secret parameter, which was not recorded"):
        tracking.commands.reproduce.recorded_options(old, trust=True)


# The code of then


def test_the_code_of_the_commit_is_laid_out(tracking, old, project, tmp_path):
    parameters = project / "conf" / "base" / "parameters.yml"
    then = parameters.read_text()
    parameters.write_text(then + "# later\n")
    hook = project / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    git(project, "commit", "--quiet", "--all", "--message=second")
    (project / "conf" / "local" / "mine.yml").write_text("a: 1\n")
    copy = tmp_path / "copy"
    with tracking.commands.reproduce.recorded_code(
        old, [DATA], project, copy
    ) as inside:
        assert inside == copy
        assert (copy / "conf" / "base" / "parameters.yml").read_text() == then
        assert (copy / "conf" / "local" / "mine.yml").read_text() == "a: 1\n"
        assert not (copy / DATA).is_symlink()
        assert len(git(project, "worktree", "list").splitlines()) == 2
    assert not copy.exists() and not (tmp_path / "hooked").exists()
    assert len(git(project, "worktree", "list").splitlines()) == 1
    assert git(project, "status", "--porcelain") == ""


def test_inputs_that_git_does_not_keep_are_taken_from_here(
    tracking, old, project, tmp_path
):
    git(project, "rm", "--quiet", "--cached", DATA)
    ignore = project / ".gitignore"
    ignore.write_text(ignore.read_text() + "*.csv\n")
    git(project, "commit", "--quiet", "--all", "--message=data outside of git")
    commit = {COMMIT: git(project, "rev-parse", "HEAD")}
    found, copy = tagged(old.info.run_id, **commit), tmp_path / "copy"
    with tracking.commands.reproduce.recorded_code(
        found, [DATA, "gone.csv"], project, copy
    ) as inside:
        assert (inside / DATA).resolve() == project / DATA
        assert tracking.commands.reproduce.digest_or_dash(
            inside / DATA
        ) == tracking.commands.reproduce.digest_or_dash(project / DATA)
        assert tracking.commands.reproduce.digest_or_dash(inside / "gone.csv") == "-"
    assert (project / DATA).exists()


def test_the_changes_to_the_commit_are_applied(
    tracking, old, project, module, tmp_path
):
    (project / "new.py").write_text("new = 1\n")
    (project / "pyproject.toml").write_text("# changed\n")
    changes, digest = module("tracking.code").uncommitted_changes(project)
    artifact(old, "code.diff").write_bytes(changes)
    found = tagged(old.info.run_id, **{"git.dirty": "true", "git.diff": digest})
    git(project, "stash", "--quiet", "--include-untracked")
    with tracking.commands.reproduce.recorded_code(
        found, [], project, tmp_path / "copy"
    ) as inside:
        assert (inside / "new.py").read_text() == "new = 1\n"
        assert (inside / "pyproject.toml").read_text() == "# changed\n"


def test_a_project_below_the_top_of_its_repository(tracking, old, project, tmp_path):
    top = tmp_path / "top"
    shutil.copytree(project / "conf", top / "inner" / "conf")
    (top / "beside.py").touch()
    git(top, "init", "--quiet")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message=first")
    found = tagged(old.info.run_id, **{COMMIT: git(top, "rev-parse", "HEAD")})
    copy = tmp_path / "copy"
    with tracking.commands.reproduce.recorded_code(
        found, [], top / "inner", copy
    ) as inside:
        assert inside == copy / "inner"
        assert (inside / "conf" / "base" / "parameters.yml").is_file()
        assert (copy / "beside.py").is_file()


def test_a_run_made_outside_of_git_takes_the_code_at_hand(
    tracking, old, project, tmp_path, capsys
):
    MlflowClient().delete_tag(old.info.run_id, COMMIT)
    inner = project / "src" / PACKAGE / "data"  # not the data that are left out
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    found, copy = mlflow.get_run(old.info.run_id), tmp_path / "copy"
    with tracking.commands.reproduce.recorded_code(
        found, [DATA], project, copy
    ) as inside:
        assert (inside / "src" / PACKAGE / "data" / "__init__.py").is_file()
        assert not (inside / "src").is_symlink()
        for name in (DATA, "pyproject.toml", "requirements.txt", "conf"):
            assert (inside / name).exists()
        assert not (inside / "data" / "08_reporting").exists()
    assert "today's code is used" in capsys.readouterr().out
    assert (project / DATA).exists() and (project / "conf" / "base").exists()


def test_a_commit_that_is_not_here_is_named(tracking, trouble, old, project, tmp_path):
    where = {
        "mlflow.source.git.repoURL": "https://host/iris.git",
        "mlflow.source.git.branch": "topic",
    }
    found = tagged(old.info.run_id, **{COMMIT: "a" * 40}, **where)
    with pytest.raises(trouble) as caught:
        with tracking.commands.reproduce.recorded_code(
            found, [], project, tmp_path / "copy"
        ):
            pass
    assert caught.value.message == (
        "Commit aaaaaaaaaaaa is not in this repository: fetch it from "
        "https://host/iris.git, where it was on topic."
    )


def test_the_code_is_cleared_away_after_an_error(tracking, old, project, tmp_path):
    copy = tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        with tracking.commands.reproduce.recorded_code(old, [], project, copy):
            raise KeyboardInterrupt
    assert not copy.exists()
    assert len(git(project, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    "noted", ["masked: it holds what looks like credentials", "0" * 32]
)
def test_changes_that_are_not_recorded_as_they_were_are_refused(
    tracking, trouble, old, noted
):
    artifact(old, "code.diff").write_text("changed")
    found = tagged(old.info.run_id, **{"git.dirty": "true", "git.diff": noted})
    said = f"What differed from the commit is not recorded: {noted}."
    with pytest.raises(trouble, match=said):
        tracking.commands.reproduce.apply_changes(found, Path("."))


def test_changes_that_do_not_apply_are_refused(tracking, trouble, old, module, project):
    found = log_diff(old, module, "diff --git a/a.py b/a.py\nnonsense\n")
    with pytest.raises(trouble, match="git cannot apply code.diff: "):
        tracking.commands.reproduce.apply_changes(found, project)


# What differs here


def test_what_differs_here_is_told(tracking, old, project, module):
    then = tracking.commands.project_runs.run_summary(old)
    assert (
        list(
            tracking.commands.project_runs.differences(
                tracking.commands.replay.local_summary(project), then
            )
        )
        == []
    )
    (project / "new.py").write_text("new = 1\n")
    here = tracking.commands.replay.local_summary(project)
    ((section, name, now, noted),) = tracking.commands.project_runs.differences(
        here, then
    )
    assert (section, name, noted) == ("code", "diff", "none")
    assert now == module("tracking.code").uncommitted_changes(project)[1]


def test_a_dry_run_says_what_differs_and_runs_nothing(old, project, kedro_in_process):
    words = ("replay", old.info.run_id[:8], "--dry-run")
    done = kedro_in_process(*words, folder=project)
    assert done.exit_code == 0
    assert done.stdout == "Here everything is as it was then.\n"
    (project / "new.py").write_text("new = 1\n")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=second")
    done = kedro_in_process(*words, folder=project)
    header, line = done.stdout.splitlines()
    assert done.exit_code == 0 and header.split() == ["here", "then"]
    assert line.split()[:2] == ["code", "commit"]
    assert len(recorded(project)) == 1


def test_a_replay_that_cannot_be_says_so_before_it_computes(
    old, project, kedro_in_process
):
    git(project, "rm", "--quiet", "--cached", DATA)
    (project / ".git" / "info" / "exclude").write_text("*.csv\n")
    git(project, "commit", "--quiet", "--all", "--message=data outside of git")
    tagged(old.info.run_id, **{COMMIT: git(project, "rev-parse", "HEAD")})

    def refusal(*words: str) -> str:
        done = kedro_in_process("replay", old.info.run_id, *words, folder=project)
        assert done.exit_code == 2
        return done.stderr.splitlines()[-1]

    data = project / DATA
    data.write_text(data.read_text() + "5.1,3.5,1.4,0.2,setosa\n")
    for words in ((), ("--dry-run",)):
        assert f"An input is not here as it was: {DATA}." in refusal(*words)
    data.unlink()
    assert f"An input is not here as it was: {DATA}." in refusal()
    shutil.rmtree(project / ".git")
    git(project, "init", "--quiet")
    assert "is not in this repository: fetch it" in refusal()
    tagged(old.info.run_id, **{"origin.run_id": "0" * 32})
    assert "was received" in refusal()
    assert len(recorded(project)) == 1


# Variations


def test_parameters_are_put_in_the_place_of_the_recorded_ones(tracking):
    recorded = {
        "env": "local",
        "runner": "ParallelRunner",
        "runner_params": {"max_workers": 2},
        "params": {"model_options.C": 0.1, "split_options": {"test_size": 0.3}},
    }
    changed = {
        "params": {"model_options": {"C": 2.0}, "new": {"a": 1}},
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
    }
    assert tracking.commands.replay.vary(recorded, changed) == {
        "env": "local",
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
        "params": {
            "model_options": {"C": 2.0},
            "split_options": {"test_size": 0.3},
            "new": {"a": 1},
        },
    }
    assert tracking.commands.replay.vary(recorded, {}) == recorded
    only = {"to_nodes": "split_data"}
    assert tracking.commands.replay.vary(recorded, only) == recorded | only


def test_a_variation_says_of_which_run_it_is_and_of_what(tracking, old):
    changed = {
        "params": {"a": {"C": 0.5}, "token": "hunter2"},
        "runner": "ThreadRunner",
    }
    assert tracking.commands.replay.variation_of(old, changed) == {
        "variation.of": old.info.run_id,
        "variation.by": "'--params=a.C=0.5,token=***' --runner=ThreadRunner",
    }


def test_what_a_variation_has_changed_comes_first(tracking, old, project):
    one, other = log(1.0, 0.5), log(2.0, 0.75)
    other = tagged(other.info.run_id, **{"registry.decision": "champion"})
    rows = tracking.commands.replay.variation_rows(one, other)
    assert rows[:2] == [("parameters C", "1.0", "2.0"), ("accuracy", "0.5", "0.75")]
    assert rows[2][0] == "model model" and len(rows) == 4
    assert rows[3] == ("promotion", "-", "champion")


def test_a_dry_run_of_a_variation_runs_nothing(old, project, kedro_in_process):
    words = ("--params=model_options.C=0.5,a.b=x", "--to-nodes=train_model")
    done = kedro_in_process("replay", "last", *words, "--dry-run", folder=project)
    assert done.exit_code == 0, done.output
    assert done.stdout == "Here everything is as it was then.\n"
    done = kedro_in_process("replay", "last", "--params=C", folder=project)
    assert done.exit_code == 2
    assert "must contain a key and a value" in done.stderr.splitlines()[-1]
    assert len(recorded(project)) == 1


# Another folder of configuration, and arguments of runners


def options_of(found, **changes) -> dict:
    """Have a run record other options; return them with its inputs."""
    file = artifact(found, "run.json")
    about = json.loads(file.read_text())
    about["run"] |= changes
    file.write_text(json.dumps(about))
    return about


def test_a_folder_of_configuration_in_the_project_is_brought_along(
    tracking, old, project, tmp_path
):
    other = project / "other"
    (other / "base").mkdir(parents=True)
    (other / "base" / "mine.yml").write_text("a: 1\n")
    options_of(old, conf_source="other")
    about = tracking.commands.reproduce.recorded_options(old, trust=False)
    names = tracking.commands.reproduce.needed(about)
    assert names == [DATA, "other"]
    copy = tmp_path / "copy"
    with tracking.commands.reproduce.recorded_code(old, names, project, copy):
        assert (copy / "other" / "base" / "mine.yml").read_text() == "a: 1\n"
    assert (other / "base" / "mine.yml").is_file()


def test_what_was_typed_is_recorded(project, kedro_in_process, monkeypatch):
    kedro_in_process("runs", folder=project)  # the package is known to Kedro now
    shutil.copytree(project / "conf", project / "other" / "conf")
    monkeypatch.chdir(project)
    words = ("--pipelines=data_engineering", "--conf-source=other/conf")
    runner = ("--runner=ThreadRunner", "--runner-params=max_workers=2")
    done = CliRunner().invoke(kedro_cli.run, [*words, *runner])
    assert done.exit_code == 0, done.output
    _, new = recorded(project)
    about = json.loads(artifact(mlflow.get_run(new.id), "run.json").read_text())
    assert about["run"] == {
        "env": "local",
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
        "runner_params": {"max_workers": 2},
        "conf_source": "other/conf",
    }
    assert new.tags["kedro.conf_source"] == "other/conf"
    assert "kedro.runner_params" not in new.tags


@pytest.mark.parametrize("place", ["/elsewhere/conf", "s3://bucket/conf"])
def test_a_folder_of_configuration_elsewhere_cannot_be_replayed(
    tracking, trouble, old, place
):
    options_of(old, conf_source=place)
    with pytest.raises(trouble) as caught:
        tracking.commands.reproduce.recorded_options(old, trust=False)
    assert caught.value.message == (
        f"Run {old.info.run_id} took its configuration from {place}, "
        "which is not recorded."
    )


def test_an_archive_of_configuration_is_an_input(tracking, old):
    about = options_of(old, conf_source="/elsewhere/conf.tar.gz")
    about["inputs"]["/elsewhere/conf.tar.gz"] = "0" * 32
    artifact(old, "run.json").write_text(json.dumps(about))
    assert tracking.commands.reproduce.recorded_options(old, trust=False) == about


def test_unknown_arguments_of_a_runner_are_told(tracking, old, capsys):
    found = tagged(old.info.run_id, **{"kedro.runner_params": "not recorded"})
    tracking.commands.reproduce.recorded_options(found, trust=False)
    said = "The arguments of its runner are not recorded: it has none now.\n"
    assert capsys.readouterr().out == said


# Straight from a file


def test_a_file_is_received_before_it_is_replayed(
    old, project, kedro_in_process, tmp_path, empty_store
):
    file, uri = tmp_path / "run.zip", f"sqlite:///{tmp_path}/other.db"
    done = kedro_in_process("share", "last", "-o", file, folder=project)
    assert done.exit_code == 0, done.output
    shutil.copy(empty_store, tmp_path / "other.db")

    def replay(given, *words: str):
        env = {"MLFLOW_TRACKING_URI": uri}
        return kedro_in_process("replay", given, *words, folder=project, **env)

    done = replay(file)
    assert done.exit_code == 2
    assert "is somebody else's code: receive it and look, or" in done.stderr
    assert recorded(tmp_path, "other.db") == []
    done = replay(tmp_path / "none.zip", "--trust")
    assert done.exit_code == 2 and "There is no file" in done.stderr
    for _ in range(2):
        done = replay(file, "--trust", "--dry-run")
        assert done.exit_code == 0, done.output
        assert done.stdout.endswith("Here everything is as it was then.\n")
        (new,) = recorded(tmp_path, "other.db")
        assert new.tags["origin.run_id"] == old.info.run_id
    done = replay(old.info.run_id[:8], "--trust", "--dry-run")  # by its id there
    assert done.exit_code == 0, done.output


def test_a_file_of_several_runs_is_not_guessed_about(
    old, project, kedro_in_process, tmp_path
):
    log(1.0, 0.5)
    words = ("share", "--experiment", "-o", tmp_path / "two.zip")
    assert kedro_in_process(*words, folder=project).exit_code == 0
    done = kedro_in_process("replay", tmp_path / "two.zip", "--trust", folder=project)
    assert done.exit_code == 2
    assert "holds 2 runs: receive it, then name one." in done.stderr


# The packages of then


def test_packages_from_a_folder_cannot_be_had_again(tracking, trouble, old, tmp_path):
    line = "# mine==1.0 came from a folder or file of that machine\n"
    artifact(old, "packages.txt").write_text(f"# Python 3.11.1\n{line}")
    with pytest.raises(trouble) as caught:
        tracking.commands.reproduce.recorded_environment(old, tmp_path)
    assert caught.value.message == (
        "The packages cannot be had again: "
        "mine==1.0 came from a folder or file of that machine."
    )


def test_an_environment_takes_uv(tracking, trouble, old, tmp_path):
    os.environ["PATH"] = str(tmp_path)
    with pytest.raises(trouble, match="--env-manager=uv needs uv: `pip install uv`"):
        tracking.commands.reproduce.recorded_environment(old, tmp_path)


@pytest.fixture
def with_uv(tmp_path) -> None:
    """Have uv on the path, without the internet."""
    bin_ = str(Path(sys.executable).parent)
    os.environ |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    os.environ["PATH"] = bin_ + os.pathsep + os.environ["PATH"]


def test_an_interpreter_that_cannot_be_had_is_told(
    tracking, trouble, old, tmp_path, with_uv
):
    found = tagged(old.info.run_id, **{"python.version": "3.99.0"})
    with pytest.raises(trouble, match=r"The packages cannot be had: .*3\.99\.0"):
        tracking.commands.reproduce.recorded_environment(found, tmp_path)


def test_an_environment_holds_the_recorded_packages_only(
    tracking, old, tmp_path, with_uv
):
    artifact(old, "packages.txt").write_text("# Python 3\n")
    python = Path(tracking.commands.reproduce.recorded_environment(old, tmp_path))
    assert python.is_file() and python.is_relative_to(tmp_path)
    assert not list(tmp_path.rglob("*.dist-info"))


# The run


@pytest.mark.parametrize("code, status", [(0, "FINISHED"), (1, "FAILED")])
def test_the_pipeline_runs_in_a_run_of_this_store(
    tracking, old, project, tmp_path, code, status
):
    os.environ |= {"PYTHONPATH": "/x", "KEDRO_MLFLOW_RUN_ID": "x"}
    used = {"model.uri": "models:/a@champion", "model.id": "m-1", "other": "x"}
    then = tagged(old.info.run_id, **used)
    command = [sys.executable, "-S", "-c", STARTED, str(code)]
    new = tracking.commands.reproduce.run_again(
        then, command, tmp_path, project, {"replay.of": old.info.run_id}
    )
    assert new.info.status == status
    assert new.info.experiment_id == old.info.experiment_id
    tags = new.data.tags
    assert tags["replay.of"] == old.info.run_id
    assert (tags["model.uri"], tags["model.id"]) == ("models:/a@champion", "m-1")
    assert "other" not in tags
    env = json.loads(tags["env"])
    assert env["MLFLOW_EXPERIMENT_ID"] == old.info.experiment_id
    assert not {"PYTHONPATH", "KEDRO_MLFLOW_RUN_ID"} & env.keys()
    assert list((project / ".runs").glob("*.db")) == []


def test_a_pipeline_that_does_not_start_leaves_no_run(
    tracking, trouble, old, project, tmp_path
):
    with pytest.raises(trouble, match="The pipeline did not start"):
        tracking.commands.reproduce.run_again(
            old, ["git", "--version"], tmp_path, project, {}
        )
    found = MlflowClient().search_runs([old.info.experiment_id])
    assert [run.info.run_id for run in found] == [old.info.run_id]


def test_a_replay_that_is_terminated_ends_its_run_as_killed(
    tracking, old, project, tmp_path, module
):
    signal.signal(signal.SIGTERM, module("tracking.active_run").exit_on_sigterm)
    stop = "kill -TERM $PPID; exec sleep 60"
    with pytest.raises(SystemExit, match="143"):
        tracking.commands.reproduce.run_again(
            old, ["sh", "-c", stop], tmp_path, project, {}
        )
    assert [run.status for run in recorded(project)] == ["FINISHED", "KILLED"]
    assert list((project / ".runs").glob("*.db")) == []


def test_a_replay_whose_interpreter_is_gone_ends_its_run_as_killed(
    tracking, old, project, tmp_path
):
    with pytest.raises(FileNotFoundError):
        tracking.commands.reproduce.run_again(
            old, [str(tmp_path / "none")], tmp_path, project, {}
        )
    assert [run.status for run in recorded(project)] == ["FINISHED", "KILLED"]


# What both have come to


def log(strength: float, metric: float):
    """Log a model and a metric to a run of its own; return the run."""
    model = LogisticRegression(C=strength).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    options = {"serialization_format": "skops", "pip_requirements": ["scikit-learn"]}
    with mlflow.start_run(experiment_id="1") as active:
        mlflow.log_metric("accuracy", metric)
        mlflow.log_param("C", strength)
        mlflow.sklearn.log_model(model, name="model", **options)
    return mlflow.get_run(active.info.run_id)


def test_equal_models_and_metrics_are_equal_wherever_they_were_logged(
    tracking, old, project
):
    assert old.info.experiment_id == "1"
    one, same, other = log(1.0, 0.5), log(1.0, 0.5), log(2.0, 0.75)
    rows = list(tracking.commands.replay.compare_outcome(one, same))
    fingerprint = rows[1][1]
    assert re.fullmatch("[0-9a-f]{32}", fingerprint)
    assert rows == [
        ("accuracy", "0.5", "0.5"),
        ("model model", fingerprint, fingerprint),
    ]
    metric, model, parameter = tracking.commands.replay.compare_outcome(one, other)
    assert metric == ("accuracy", "0.5", "0.75")
    assert model[0] == "model model" and model[1] == fingerprint != model[2]
    assert parameter == ("parameters C", "1.0", "2.0")


def test_what_only_one_has_is_told(tracking, old, project):
    with mlflow.start_run(experiment_id="1") as active:
        mlflow.log_metric("new", 1.0)
    rows = list(
        tracking.commands.replay.compare_outcome(
            old, mlflow.get_run(active.info.run_id)
        )
    )
    found = {name: values for name, *values in rows}
    assert found["new"] == ["-", "1.0"]
    assert found["accuracy"][1] == "-" and found["model model"][1] == "-"
    assert found["run pipeline"] == ["__default__", "?"]
    assert found["data iris"][1] == "-"


def test_files_that_say_when_and_where_do_not_count(tracking, tmp_path):
    for name in ("MLmodel", "conda.yaml", "requirements.txt"):
        (file := tmp_path / name).write_text("now and here")
        assert tracking.commands.replay.fingerprint_file(file) == b""
    (file := tmp_path / "model.pkl").write_bytes(b"learnt")
    assert tracking.commands.replay.fingerprint_file(file) == b"learnt"


def test_ids_and_names_in_a_model_do_not_count(tracking, tmp_path):
    found = []
    for number, content in ((1, b"a"), (2, b"a"), (3, b"b")):
        file = tmp_path / f"{number}.skops"
        with zipfile.ZipFile(file, "w") as made:
            schema = {"__id__": number, "file": f"{number}.npy"}
            made.writestr("schema.json", json.dumps(schema))
            made.writestr(f"{number}.npy", content)
        found.append(tracking.commands.replay.fingerprint_file(file))
    assert found[0] == found[1] != found[2]
