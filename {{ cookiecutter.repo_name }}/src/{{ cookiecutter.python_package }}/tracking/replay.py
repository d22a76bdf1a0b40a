"""``kedro replay``: a run once more, from its own code; and is it equal?"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from . import hooks, journal, origin, provenance, redact, runs
from .runs import Trouble, artifact


@click.command()
@click.argument("run_id")
@click.option("--dry-run", is_flag=True, help="Only say what differs here.")
@click.option(
    "--env-manager",
    type=click.Choice(["local", "uv"]),
    default="local",
    show_default=True,
    help="Use this environment, or one of exactly the recorded packages.",
)
@click.option("--trust", is_flag=True, help="Replay what somebody else has sent.")
@runs.option
@click.pass_obj
def replay(metadata: Any, run_id: str, dry_run, env_manager, trust, env) -> None:
    """Run once more what a run has recorded, and compare.

    The same pipeline with the same parameters, environment and filters runs in a
    temporary folder, from the recorded commit and the changes to it. Nothing here is
    touched; no model is registered.

    Exit status: 0 if all metrics and models are equal, 1 if not, 2 in trouble.
    """
    project = Path(metadata.project_path)
    signal.signal(signal.SIGTERM, hooks.exit_on_sigterm)  # so that nothing is left
    with (
        runs.project_store(project, env),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        ExitStack() as copies,
    ):
        old, folder = runs.find(run_id), Path(name)
        about = recorded_options(old, trust)
        copy = copies.enter_context(
            recorded_code(old, about["inputs"], project, folder / "code")
        )
        data = {path: digest(copy / path) for path in about["inputs"]}
        here, then = facts_here(project), runs.facts(old)
        differ = list(
            runs.differences(here | {"data": data}, then | {"data": about["inputs"]})
        )
        if differ:
            click.echo(runs.table([("", "", "here", "then"), *differ]))
        else:
            click.echo("Here everything is as it was then.")
        lost = [path for path in data if data[path] != about["inputs"][path]]
        if dry_run:
            say_what_is_lost(lost, about)
            return
        environment = Environment(project, folder, env_manager == "uv", trust)
        remake_inputs(lost, about, copy, environment, copies)
        new = environment.run_again(old, about, copy)
        rows = [("", old.info.run_id[:8], new.info.run_id[:8]), *outcome(old, new)]
    click.echo(runs.table(rows))
    equal = all(one == other for _, one, other in rows[1:])
    click.echo("equal" if equal else "different")
    raise SystemExit(not equal)


def say_what_is_lost(lost: list[str], about: dict[str, dict[str, str]]) -> None:
    """Say which inputs are not as they were, and which runs would make them again.

    Raises:
        Trouble: No run is known that made an input.
    """
    for path in lost:
        maker = about.get("made_by", {}).get(path, "")
        if not re.fullmatch("[0-9a-f]{32}", maker):
            raise Trouble(f"An input is not here as it was: {path}.")
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
        Trouble: No such run is known, or it makes something else today.
    """
    say_what_is_lost(lost, about)
    makers = {about["made_by"][path] for path in lost}
    for number, maker in enumerate(sorted(makers)):
        made = runs.find(maker)
        options = recorded_options(made, environment.trust)
        place = environment.folder / f"{copy.name}-{number}" / "code"
        place.parent.mkdir()
        inside = copies.enter_context(
            recorded_code(made, options["inputs"], environment.project, place)
        )
        gone = [p for p, md5 in options["inputs"].items() if digest(inside / p) != md5]
        remake_inputs(gone, options, inside, environment, copies)
        environment.run_again(made, options, inside)
        for path in lost:
            if about["made_by"][path] == maker:
                (copy / path).unlink(missing_ok=True)
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                (copy / path).symlink_to(inside / path)
                if digest(copy / path) != about["inputs"][path]:
                    raise Trouble(
                        f"Run {maker}, replayed, makes another {path} than then: the "
                        "input of this run cannot be had again."
                    )


def digest(path: Path) -> str:
    """Return the digest of a file's bytes, ``-`` if there is no file."""
    return provenance.digest(path) if path.is_file() else "-"


def recorded_options(run: Any, trust: bool) -> dict[str, dict[str, str]]:
    """Return the options and inputs of a run, if it may be repeated."""
    run_id, written = run.info.run_id, artifact(run, origin.OPTIONS)
    if not written:
        raise Trouble(
            f"Run {run_id} does not say how to repeat it: it was not made by `kedro "
            "run`, or by an older version of this project."
        )
    if runs.ORIGIN in run.data.tags and not trust:
        raise Trouble(
            f"Run {run_id} was received; its options and changes may do anything that "
            f"you may: look at its artifacts in {provenance.FOLDER}, then use --trust."
        )
    about = json.loads(written)
    if "kedro.skipped_nodes" in run.data.tags and not about["run"].get("node_names"):
        raise Trouble(f"Run {run_id} has run no node: there is nothing to repeat.")
    if redact.HIDDEN.encode() in written:
        raise Trouble(f"Run {run_id} had a secret parameter, which was not recorded.")
    return about


@contextmanager
def recorded_code(
    run: Any, inputs: Iterable[str], project: Path, copy: Path
) -> Iterator[Path]:
    """Lay out the code of a run, and clear it away at the end; yield the project in it.

    If the run was made outside git, it is the present code. What git does not keep is
    taken from here: inputs, credentials, conf/local.
    """
    git, tags, inside = provenance.git, run.data.tags, copy
    try:
        if commit := tags.get(provenance.COMMIT):
            quiet = ("-c", f"core.hooksPath={os.devnull}")
            worktree = ("worktree", "add", "--detach", str(copy), commit)
            _, why = provenance.ask_git(project, *quiet, *worktree)
            if not (copy / ".git").exists():
                _, refusal = provenance.ask_git(project, "rev-parse", "--git-dir")
                if refusal:
                    raise Trouble(f"Commit {commit[:12]} cannot be had: {refusal}")
                if git(project, "cat-file", "-t", commit):
                    raise Trouble(f"Commit {commit[:12]} cannot be laid out: {why}")
                raise Trouble(
                    f"Commit {commit[:12]} is not in this repository: fetch it from "
                    f"{tags.get('mlflow.source.git.repoURL', 'the remote')}, where it "
                    f"was on {tags.get('mlflow.source.git.branch', 'a branch')}."
                )
            prefix = git(project, "rev-parse", "--show-prefix").strip()
            inside = copy / os.fsdecode(prefix)
            if tags.get(provenance.OUTSIDE) == "true":
                click.echo(
                    "Files beside the project, in its repository, differed from the "
                    "commit: they are replayed as the commit has them."
                )
            if tags.get("git.dirty") == "true":
                apply_changes(run, copy)
        else:
            why = tags.get(provenance.NO_GIT)
            where = f"where git refused ({why})" if why else "outside git"
            click.echo(f"The run was made {where}: today's code is used.")
            shutil.copytree(project / "src", copy / "src")
            inputs = [*inputs, "pyproject.toml", "requirements.txt"]
        conf = (path.relative_to(project) for path in (project / "conf").rglob("*"))
        for name in (*inputs, *map(str, conf)):
            source, target = project / name, inside / name
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source, source.is_dir())
        yield inside
    finally:
        git(project, "worktree", "remove", "--force", str(copy))


def apply_changes(run: Any, copy: Path) -> None:
    """Apply to a commit what differed from it, if that is recorded as it was."""
    changes, noted = artifact(run, origin.DIFF), run.data.tags.get("git.diff", "none")
    if provenance.md5(changes) != noted:
        raise Trouble(f"What differed from the commit is not recorded: {noted}.")
    if changes:
        command = ["git", "-C", str(copy), "apply", "--whitespace=nowarn", "-"]
        done = subprocess.run(command, input=changes, capture_output=True)
        if done.returncode:
            raise Trouble(f"git cannot apply {origin.DIFF}: {done.stderr.decode()}")


def facts_here(project: Path) -> runs.Facts:
    """Return what a run that started here now would record."""
    state = provenance.git_state(project)
    if state.get("git.dirty") == "true":
        state["git.diff"] = origin.diff(project)[1]
    installed = runs.packages(origin.packages(project))
    return {"packages": installed, "code": runs.code(state)}


def recorded_environment(run: Any, folder: Path) -> str:
    """Make an environment of exactly the recorded packages; return its interpreter."""
    wanted, env = folder / origin.PACKAGES, folder / "environment"
    wanted.write_bytes(artifact(run, origin.PACKAGES))
    if lost := re.findall("^# (.+ came from .+)$", wanted.read_text("utf-8"), re.M):
        raise Trouble(f"The packages cannot be had again: {lost[0]}.")
    if not (uv := shutil.which("uv")):
        raise Trouble("--env-manager=uv needs uv: `pip install uv`.")
    python = str(env / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    venv = (uv, "venv", "--python", run.data.tags["python.version"], str(env))
    for command in (venv, (uv, "pip", "sync", "--python", python, str(wanted))):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = " ".join(re.sub(r"[^\x20-\x7e]", " ", done.stderr).split())
            raise Trouble(f"The packages cannot be had: {redact.mask(said)[-400:]}")
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

    def run_again(self, old: Any, about: dict[str, Any], copy: Path) -> Any:
        """Run the pipeline in the copy, in a run made here, and return that run."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        (place / origin.OPTIONS).write_text(json.dumps({"run": about["run"]}), "utf-8")
        options = f"--config={place / origin.OPTIONS}"
        python = recorded_environment(old, place) if self.uv else sys.executable
        command = [python, "-m", "kedro", "run", options]
        return run_again(old, command, copy, self.project)


def run_again(old: Any, command: list[str], copy: Path, project: Path) -> Any:
    """Run the pipeline in the copy, in a run made here, and return that run."""
    from mlflow import MlflowClient

    client, where = MlflowClient(), old.info.experiment_id
    tags = {k: v for k, v in old.data.tags.items() if k in ("model.uri", "model.id")}
    made = client.create_run(where, tags=tags | {origin.REPLAY: old.info.run_id})
    run_id, status = made.info.run_id, "KILLED"
    entry = journal.Entry(project, run_id, os.environ["MLFLOW_TRACKING_URI"])
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
        entry.owe(status)
        client.set_terminated(run_id, status)
        entry.close(delivered=True)
    new = client.get_run(run_id)
    if "kedro.run_id" not in new.data.tags:
        client.delete_run(run_id)
        raise Trouble("The pipeline did not start: what it said is above.")
    return new


def outcome(old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what both runs have come to: metrics, models, and what else differs."""
    one, other = runs.facts(old), runs.facts(new)
    models = fingerprints(old), fingerprints(new)
    for then, now in ((one["metrics"], other["metrics"]), models):
        for name in sorted(then.keys() | now.keys()):
            yield name, then.get(name, "-"), now.get(name, "-")
    for section, name, *values in runs.differences(one, other):
        if section in ("run", "parameters", "data"):
            yield f"{section} {name}", values[0], values[1]


def fingerprints(run: Any) -> dict[str, str]:
    """Return a digest of what each model of a run has learnt, by its name."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    found = {}
    for output in run.outputs.model_outputs:
        model = MlflowClient().get_logged_model(output.model_id)
        with tempfile.TemporaryDirectory() as name:
            place = Path(download_artifacts(model.artifact_location, dst_path=name))
            files = [file for file in sorted(place.rglob("*")) if file.is_file()]
            text = b"".join(map(learnt, files))
        found[f"model {model.name}"] = provenance.md5(text)
    return found


def learnt(file: Path) -> bytes:
    """Return what a model's file has learnt; nothing that says where and when."""
    if file.suffix in ("", ".yaml", ".txt"):
        return b""
    if file.suffix != ".skops":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        schema = re.sub(r'"__id__": \d+', "", archive.read("schema.json").decode())
        for entry in archive.infolist():
            schema = schema.replace(entry.filename, str(entry.CRC))
    return schema.encode()
