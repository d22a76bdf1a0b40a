"""Lay out the code of a recorded run in a temporary folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import code, datasets, names
from . import project_runs
from .project_runs import CommandError


def link_or_copy(target: Path, source: Path) -> None:
    """Make a file or folder available elsewhere; Windows lets few users make links."""
    try:
        target.symlink_to(source, source.is_dir())
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


@contextmanager
def recorded_code(
    run: Any, about: dict[str, Any], project: Path, copy: Path
) -> Iterator[Path]:
    """Check out the code of a run in a temporary copy; yield the project there.

    If the run was made outside git, it is the present code. What git does not keep is
    taken from here: inputs, credentials, conf/local.
    """
    inside, tags, needed = copy, run.data.tags, [*about["inputs"]]
    for conf in ("conf", about["run"].get("conf_source", "")):
        files = (project / conf).rglob("*") if conf else ()
        needed += (path.relative_to(project) for path in files)
    try:
        if names.COMMIT_TAG in tags:
            inside = check_out(run, project, copy)
        else:
            why = tags.get(names.NO_GIT_TAG)
            where = f"where git refused ({why})" if why else "outside git"
            click.echo(f"The run was made {where}: today's code is used.")
            shutil.copytree(project / "src", copy / "src")
            needed += ["pyproject.toml", "requirements.txt"]
        for name in needed:
            source, target = project / name, inside / name
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(target, source)
        yield inside
    finally:
        code.git(project, "worktree", "remove", "--force", str(copy))


def check_out(run: Any, project: Path, copy: Path) -> Path:
    """Check out the commit of a run and its changes; return the project in it."""
    tags, quiet = run.data.tags, ("-c", f"core.hooksPath={os.devnull}")
    commit = tags[names.COMMIT_TAG]
    worktree = ("worktree", "add", "--detach", str(copy), commit)
    _, why = code.try_git(project, *quiet, *worktree)
    if not (copy / ".git").exists():
        raise missing_commit(tags, project, why)
    if tags.get(names.DIRTY_OUTSIDE_TAG) == "true":
        click.echo(
            "Files beside the project, in its repository, differed from the commit: "
            "they are replayed as the commit has them."
        )
    if tags.get("git.dirty") == "true":
        apply_changes(run, copy)
    return copy / os.fsdecode(code.git(project, "rev-parse", "--show-prefix").strip())


def missing_commit(tags: dict[str, str], project: Path, why: str) -> CommandError:
    """Return the error that says why a commit cannot be checked out."""
    commit = tags[names.COMMIT_TAG]
    _, refusal = code.try_git(project, "rev-parse", "--git-dir")
    if refusal:
        said = f"cannot be had: {refusal}"
    elif code.git(project, "cat-file", "-t", commit):
        said = f"cannot be laid out: {why}"
    else:
        remote = tags.get("mlflow.source.git.repoURL", "the remote")
        branch = tags.get("mlflow.source.git.branch", "a branch")
        said = f"is not in this repository: fetch it from {remote}, "
        said += f"where it was on {branch}."
    return CommandError(f"Commit {commit[:12]} {said}")


def apply_changes(run: Any, copy: Path) -> None:
    """Apply the recorded changes to a checked-out commit."""
    changes = project_runs.read_artifact(run, code.DIFF_FILE)
    noted = run.data.tags.get("git.diff", "none")
    if datasets.md5(changes) != noted:
        raise CommandError(f"What differed from the commit is not recorded: {noted}.")
    if changes:
        command = ["git", "-C", str(copy), "apply", "--whitespace=nowarn", "-"]
        done = subprocess.run(command, input=changes, capture_output=True)
        if done.returncode:
            why = done.stderr.decode()
            raise CommandError(f"git cannot apply {code.DIFF_FILE}: {why}")
