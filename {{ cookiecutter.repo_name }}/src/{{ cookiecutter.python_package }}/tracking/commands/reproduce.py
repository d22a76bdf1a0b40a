"""Lay out the code, inputs and packages of a recorded run, and run it again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import code, datasets, names, provenance, recovery, redact
from . import project_runs
from .project_runs import CommandError


def digest_or_dash(path: Path) -> str:
    """Return the digest of a file's bytes, ``-`` if there is no file."""
    return datasets.file_digest(path) if path.is_file() else "-"


def replay_of(run: Any) -> dict[str, str]:
    """Return the tags of a replay."""
    return {provenance.REPLAY_TAG: run.info.run_id}


def recorded_options(run: Any, trust: bool) -> dict[str, dict[str, str]]:
    """Return the recorded options and inputs of a run, if it can be repeated."""
    run_id = run.info.run_id
    written = project_runs.read_artifact(run, provenance.OPTIONS_FILE)
    if not written:
        raise CommandError(
            f"Run {run_id} does not say how to repeat it: it was not made by `kedro "
            "run`, or by an older version of this project."
        )
    if project_runs.SOURCE_RUN_TAG in run.data.tags and not trust:
        raise CommandError(
            f"Run {run_id} was received; its options and changes may do anything that "
            f"you may: look at its artifacts in {provenance.FOLDER}, then use --trust."
        )
    about = json.loads(written)
    if "kedro.skipped_nodes" in run.data.tags and not about["run"].get("node_names"):
        raise CommandError(f"Run {run_id} has run no node: there is nothing to repeat.")
    if redact.HIDDEN.encode() in written:
        raise CommandError(
            f"Run {run_id} had a secret parameter, which was not recorded."
        )
    conf = about["run"].get("conf_source", "")
    elsewhere = "://" in conf or Path(conf).is_absolute()
    if elsewhere and conf not in about["inputs"]:
        raise CommandError(
            f"Run {run_id} took its configuration from {conf}, which is not recorded."
        )
    if provenance.RUNNER_TAG in run.data.tags:
        click.echo("The arguments of its runner are not recorded: it has none now.")
    return about


def needed(about: dict[str, dict[str, str]]) -> list[str]:
    """Return the files and folders that a run needs beside its code."""
    conf = about["run"].get("conf_source")
    return [*about["inputs"], *([conf] if conf else [])]


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
    run: Any, inputs: Iterable[str], project: Path, copy: Path
) -> Iterator[Path]:
    """Check out the code of a run in a temporary copy; yield the project there.

    If the run was made outside git, it is the present code. What git does not keep is
    taken from here: inputs, credentials, conf/local.
    """
    inside, tags = copy, run.data.tags
    try:
        if names.COMMIT_TAG in tags:
            inside = check_out(run, project, copy)
        else:
            why = tags.get(names.NO_GIT_TAG)
            where = f"where git refused ({why})" if why else "outside git"
            click.echo(f"The run was made {where}: today's code is used.")
            shutil.copytree(project / "src", copy / "src")
            inputs = [*inputs, "pyproject.toml", "requirements.txt"]
        folders = (project / name for name in ("conf", *inputs))
        conf = [path.relative_to(project) for f in folders for path in f.rglob("*")]
        for name in (*inputs, *map(str, conf)):
            source, target = project / name, inside / name
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(target, source)
        yield inside
    finally:
        code.git(project, "worktree", "remove", "--force", str(copy))


def check_out(run: Any, project: Path, copy: Path) -> Path:
    """Check out the commit of a run, with the changes to it; return the project in it.

    Raises:
        CommandError: The commit or the changes cannot be had.
    """
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
        return CommandError(f"Commit {commit[:12]} cannot be had: {refusal}")
    if code.git(project, "cat-file", "-t", commit):
        return CommandError(f"Commit {commit[:12]} cannot be laid out: {why}")
    return CommandError(
        f"Commit {commit[:12]} is not in this repository: fetch it from "
        f"{tags.get('mlflow.source.git.repoURL', 'the remote')}, where it "
        f"was on {tags.get('mlflow.source.git.branch', 'a branch')}."
    )


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
            raise CommandError(
                f"git cannot apply {code.DIFF_FILE}: {done.stderr.decode()}"
            )


def recorded_environment(run: Any, folder: Path) -> str:
    """Create an environment with the recorded packages; return its interpreter."""
    wanted, env = folder / code.PACKAGES_FILE, folder / "environment"
    wanted.write_bytes(project_runs.read_artifact(run, code.PACKAGES_FILE))
    if lost := re.findall("^# (.+ came from .+)$", wanted.read_text("utf-8"), re.M):
        raise CommandError(f"The packages cannot be had again: {lost[0]}.")
    if not (uv := shutil.which("uv")):
        raise CommandError("--env-manager=uv needs uv: `pip install uv`.")
    python = str(env / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    venv = (uv, "venv", "--python", run.data.tags["python.version"], str(env))
    for command in (venv, (uv, "pip", "sync", "--python", python, str(wanted))):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = " ".join(re.sub(r"[^\x20-\x7e]", " ", done.stderr).split())
            raise CommandError(
                f"The packages cannot be had: {redact.mask(said)[-400:]}"
            )
    return python


@dataclass
class Environment:
    """Where pipelines are run again.

    Args:
        project: The project's folder.
        folder: A temporary folder.
        uv: Whether an environment of the recorded packages is made for each run.
        trust: Whether runs that somebody else has sent are run, too.
    """

    project: Path
    folder: Path
    uv: bool
    trust: bool

    def run_again(
        self, old: Any, about: dict[str, Any], copy: Path, tags: dict[str, str]
    ) -> Any:
        """Run the pipeline in the copy, in a run made here, and return that run."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        (place / provenance.OPTIONS_FILE).write_text(
            json.dumps({"run": about["run"]}), "utf-8"
        )
        options = f"--config={place / provenance.OPTIONS_FILE}"
        python = recorded_environment(old, place) if self.uv else sys.executable
        command = [python, "-m", "kedro", "run", options]
        return run_again(old, command, copy, self.project, tags)


def run_again(
    old: Any, command: list[str], copy: Path, project: Path, tags: dict[str, str]
) -> Any:
    """Run the pipeline in the copy, in a run made here, and return that run.

    Args:
        old: The run that is repeated.
        command: The command that runs the pipeline.
        copy: The folder where it does.
        project: The project's folder.
        tags: Say of which run the new one is a replay or a variation.
    """
    from mlflow import MlflowClient

    client, where = MlflowClient(), old.info.experiment_id
    pending = recovery.PendingRun(project, os.environ["MLFLOW_TRACKING_URI"], where)
    used = {k: v for k, v in old.data.tags.items() if k in ("model.uri", "model.id")}
    tags = tags | used | {recovery.CREATION_TAG: pending.creation}
    run_id, status = client.create_run(where, tags=tags).info.run_id, "KILLED"
    pending.set_run(run_id)
    # What is ours in the environment would be set anew by the copy's configuration.
    ours = ("KEDRO_MLFLOW_", "MLFLOW_EXPERIMENT_", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    env |= {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": where}
    try:
        with subprocess.Popen(command, cwd=copy, env=env) as child:
            try:
                status = "FAILED" if child.wait() else "FINISHED"
            except BaseException:
                child.terminate()
                raise
    finally:
        pending.set_final_status(status)
        client.set_terminated(run_id, status)
        pending.close(done=True)
    new = client.get_run(run_id)
    if "kedro.run_id" not in new.data.tags:
        client.delete_run(run_id)
        raise CommandError("The pipeline did not start: what it said is above.")
    return new


def report_lost_inputs(lost: list[str], about: dict[str, dict[str, str]]) -> None:
    """Name the inputs that have changed, and the runs that can remake them.

    Raises:
        CommandError: No run is known that made an input.
    """
    for path in lost:
        maker = about.get("made_by", {}).get(path, "")
        if not re.fullmatch("[0-9a-f]{32}", maker):
            raise CommandError(f"An input is not here as it was: {path}.")
        click.echo(
            f"{path} is not here as it was: run {maker}, which made it, is replayed."
        )


def remake_inputs(
    lost: list[str],
    about: dict[str, dict[str, str]],
    copy: Path,
    environment: Environment,
    copies: ExitStack,
) -> None:
    """Replay the runs that made inputs which are not here any more.

    Raises:
        CommandError: No such run is known, or it makes something else today.
    """
    report_lost_inputs(lost, about)
    makers = {about["made_by"][path] for path in lost}
    for number, maker in enumerate(sorted(makers)):
        made = project_runs.resolve_run(maker)
        options = recorded_options(made, environment.trust)
        place = environment.folder / f"{copy.name}-{number}" / "code"
        place.parent.mkdir()
        inside = copies.enter_context(
            recorded_code(made, needed(options), environment.project, place)
        )
        gone = [
            p
            for p, md5 in options["inputs"].items()
            if digest_or_dash(inside / p) != md5
        ]
        remake_inputs(gone, options, inside, environment, copies)
        environment.run_again(made, options, inside, replay_of(made))
        for path in lost:
            if about["made_by"][path] == maker:
                (copy / path).unlink(missing_ok=True)
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(copy / path, inside / path)
                if digest_or_dash(copy / path) != about["inputs"][path]:
                    raise CommandError(
                        f"Run {maker}, replayed, makes another {path} than then: the "
                        "input of this run cannot be had again."
                    )
