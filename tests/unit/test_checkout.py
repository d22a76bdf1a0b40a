"""``tracking.commands.checkout``: the code of a recorded run is laid out."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from runs import PACKAGE, environment_file, git, tagged

DATA = "data/01_raw/iris.csv"
COMMIT = "mlflow.source.git.commit"


@pytest.fixture
def project(trained_project) -> Path:
    """Return a project in git with one training; MLflow is led to its store."""
    return trained_project


def reading(*inputs: str, **options: str) -> dict:
    """Return what a run with these inputs and options has recorded."""
    return {"run": options, "inputs": dict.fromkeys(inputs, "0" * 32)}


def log_diff(found, module, text: str):
    """Have a run record a change to its commit; return it."""
    environment_file(found, "code.diff").write_text(text)
    digest = module("tracking.datasets").md5(text.encode())
    return tagged(found.info.run_id, **{"git.dirty": "true", "git.diff": digest})


def test_the_code_of_the_commit_is_laid_out(tracking, old_run, project, tmp_path):
    parameters = project / "conf" / "base" / "parameters.yml"
    then = parameters.read_text()
    parameters.write_text(then + "# later\n")
    hook = project / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    git(project, "commit", "--quiet", "--all", "--message=second")
    (project / "conf" / "local" / "mine.yml").write_text("a: 1\n")
    copy = tmp_path / "copy"
    with tracking.commands.checkout.recorded_code(
        old_run, reading(DATA), project, copy
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
    tracking, old_run, project, tmp_path
):
    git(project, "rm", "--quiet", "--cached", DATA)
    ignore = project / ".gitignore"
    ignore.write_text(ignore.read_text() + "*.csv\n")
    git(project, "commit", "--quiet", "--all", "--message=data outside of git")
    commit = {COMMIT: git(project, "rev-parse", "HEAD")}
    found, copy = tagged(old_run.info.run_id, **commit), tmp_path / "copy"
    with tracking.commands.checkout.recorded_code(
        found, reading(DATA, "gone.csv"), project, copy
    ) as inside:
        assert (inside / DATA).resolve() == project / DATA
        assert not (inside / "gone.csv").exists()
    assert (project / DATA).exists()


def test_the_changes_to_the_commit_are_applied(
    tracking, old_run, project, module, tmp_path
):
    (project / "new.py").write_text("new = 1\n")
    (project / "pyproject.toml").write_text("# changed\n")
    changes, digest = module("tracking.code").uncommitted_changes(project)
    environment_file(old_run, "code.diff").write_bytes(changes)
    found = tagged(old_run.info.run_id, **{"git.dirty": "true", "git.diff": digest})
    git(project, "stash", "--quiet", "--include-untracked")
    with tracking.commands.checkout.recorded_code(
        found, reading(), project, tmp_path / "copy"
    ) as inside:
        assert (inside / "new.py").read_text() == "new = 1\n"
        assert (inside / "pyproject.toml").read_text() == "# changed\n"


def test_a_project_below_the_top_of_its_repository(
    tracking, old_run, project, tmp_path
):
    top = tmp_path / "top"
    shutil.copytree(project / "conf", top / "inner" / "conf")
    (top / "beside.py").touch()
    git(top, "init", "--quiet")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message=first")
    found = tagged(old_run.info.run_id, **{COMMIT: git(top, "rev-parse", "HEAD")})
    copy = tmp_path / "copy"
    with tracking.commands.checkout.recorded_code(
        found, reading(), top / "inner", copy
    ) as inside:
        assert inside == copy / "inner"
        assert (inside / "conf" / "base" / "parameters.yml").is_file()
        assert (copy / "beside.py").is_file()


def test_a_run_made_outside_of_git_takes_the_code_at_hand(
    tracking, old_run, project, tmp_path, capsys
):
    MlflowClient().delete_tag(old_run.info.run_id, COMMIT)
    inner = project / "src" / PACKAGE / "data"  # not the data that are left out
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    found, copy = mlflow.get_run(old_run.info.run_id), tmp_path / "copy"
    with tracking.commands.checkout.recorded_code(
        found, reading(DATA), project, copy
    ) as inside:
        assert (inside / "src" / PACKAGE / "data" / "__init__.py").is_file()
        assert not (inside / "src").is_symlink()
        for name in (DATA, "pyproject.toml", "requirements.txt", "conf"):
            assert (inside / name).exists()
        assert not (inside / "data" / "08_reporting").exists()
    assert "today's code is used" in capsys.readouterr().out
    assert (project / DATA).exists() and (project / "conf" / "base").exists()


def test_a_commit_that_is_not_here_is_named(
    tracking, command_error, old_run, project, tmp_path
):
    where = {
        "mlflow.source.git.repoURL": "https://host/iris.git",
        "mlflow.source.git.branch": "topic",
    }
    found = tagged(old_run.info.run_id, **{COMMIT: "a" * 40}, **where)
    with pytest.raises(command_error) as caught:
        with tracking.commands.checkout.recorded_code(
            found, reading(), project, tmp_path / "copy"
        ):
            pass
    assert caught.value.message == (
        "Commit aaaaaaaaaaaa is not in this repository: fetch it from "
        "https://host/iris.git, where it was on topic."
    )


def test_the_code_is_cleared_away_after_an_error(tracking, old_run, project, tmp_path):
    copy = tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        with tracking.commands.checkout.recorded_code(
            old_run, reading(), project, copy
        ):
            raise KeyboardInterrupt
    assert not copy.exists()
    assert len(git(project, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    "noted", ["masked: it holds what looks like credentials", "0" * 32]
)
def test_changes_that_are_not_recorded_as_they_were_are_refused(
    tracking, command_error, old_run, noted
):
    environment_file(old_run, "code.diff").write_text("changed")
    found = tagged(old_run.info.run_id, **{"git.dirty": "true", "git.diff": noted})
    said = f"What differed from the commit is not recorded: {noted}."
    with pytest.raises(command_error, match=said):
        tracking.commands.checkout.apply_changes(found, Path("."))


def test_changes_that_do_not_apply_are_refused(
    tracking, command_error, old_run, module, project
):
    found = log_diff(old_run, module, "diff --git a/a.py b/a.py\nnonsense\n")
    with pytest.raises(command_error, match="git cannot apply code.diff: "):
        tracking.commands.checkout.apply_changes(found, project)


def test_a_folder_of_configuration_in_the_project_is_brought_along(
    tracking, old_run, project, tmp_path
):
    other = project / "other"
    (other / "base").mkdir(parents=True)
    (other / "base" / "mine.yml").write_text("a: 1\n")
    about = reading(DATA, conf_source="other")
    copy = tmp_path / "copy"
    with tracking.commands.checkout.recorded_code(old_run, about, project, copy):
        assert (copy / "other" / "base" / "mine.yml").read_text() == "a: 1\n"
    assert (other / "base" / "mine.yml").is_file()
