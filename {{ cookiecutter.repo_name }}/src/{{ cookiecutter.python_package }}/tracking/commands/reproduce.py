"""Run a recorded run again: its options, packages and inputs."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from .. import code, datasets, pending_runs, provenance, redact
from . import checkout, project_runs
from .project_runs import CommandError


def digest_or_dash(path: Path) -> str:
    """Return the digest of a file's bytes, ``-`` if there is no file."""
    return datasets.file_digest(path) if path.is_file() else "-"


def recorded_options(run: Any, trust: bool) -> dict[str, dict[str, str]]:
    """Return the recorded options and inputs of a run, if it can be repeated."""

    def refuse(why: str) -> CommandError:
        return CommandError(f"Run {run.info.run_id} {why}")

    written = project_runs.read_artifact(run, provenance.OPTIONS_FILE)
    if not written:
        raise refuse(
            "does not say how to repeat it: it was not made by `kedro run`, or by an "
            "older version of this project."
        )
    if project_runs.SOURCE_RUN_TAG in run.data.tags and not trust:
        raise refuse(
            "was received; its options and changes may do anything that you may: look "
            f"at its artifacts in {provenance.FOLDER}, then use --trust."
        )
    about = json.loads(written)
    if "kedro.skipped_nodes" in run.data.tags and not about["run"].get("node_names"):
        raise refuse("has run no node: there is nothing to repeat.")
    if redact.HIDDEN.encode() in written:
        raise refuse("had a secret parameter, which was not recorded.")
    conf = about["run"].get("conf_source", "")
    elsewhere = "://" in conf or Path(conf).is_absolute()
    if elsewhere and conf not in about["inputs"]:
        raise refuse(f"took its configuration from {conf}, which is not recorded.")
    if provenance.RUNNER_TAG in run.data.tags:
        click.echo("The arguments of its runner are not recorded: it has none now.")
    return about


def recorded_environment(run: Any, folder: Path) -> str:
    """Create an environment with the recorded packages; return its interpreter."""
    wanted, env = folder / code.PACKAGES_FILE, folder / "environment"
    wanted.write_bytes(project_runs.read_artifact(run, code.PACKAGES_FILE))
    if lost := re.findall("^# (.+ came from .+)$", wanted.read_text("utf-8"), re.M):
        raise CommandError(f"The packages cannot be had again: {lost[0]}.")
    if not (uv := shutil.which("uv")):
        raise CommandError("--env-manager=uv needs uv: `pip install uv`.")
    python = str(env / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    wanted_python = run.data.tags["python.version"]
    if wanted_python == platform.python_version():  # uv may not find it by its number
        wanted_python = sys.executable
    venv = (uv, "venv", "--python", wanted_python, str(env))
    for command in (venv, (uv, "pip", "sync", "--python", python, str(wanted))):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = " ".join(re.sub(r"[^\x20-\x7e]", " ", done.stderr).split())
            why = redact.mask(said)[-400:]
            raise CommandError(f"The packages cannot be had: {why}")
    return python


def run_again(
    old: Any, command: list[str], copy: Path, project: Path, tags: dict[str, str]
) -> Any:
    """Repeat a run by a command in a copy of the project; return the new run."""
    from mlflow import MlflowClient

    client, where = MlflowClient(), old.info.experiment_id
    uri = os.environ["MLFLOW_TRACKING_URI"]
    pending = pending_runs.PendingRun(project, uri, where)
    used = {k: v for k, v in old.data.tags.items() if k in ("model.uri", "model.id")}
    tags = tags | used | {pending_runs.CREATION_TAG: pending.creation}
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


class Copy(NamedTuple):
    """A recorded run whose code is laid out, with the inputs that are still here."""

    run: Any
    about: dict[str, Any]  # its recorded options and inputs
    folder: Path  # the project's folder in the copy
    data: dict[str, str]  # the digests of the inputs there

    def find_makers(self) -> dict[str, str]:
        """Return the run that made each input which is not here any more; say so."""
        inputs, known = self.about["inputs"], self.about.get("made_by", {})
        lost = [path for path in inputs if inputs[path] != self.data[path]]
        makers = {path: known.get(path, "") for path in lost}
        for path, maker in makers.items():
            if not re.fullmatch("[0-9a-f]{32}", maker):
                raise CommandError(f"An input is not here as it was: {path}.")
            said = f"run {maker}, which made it, is replayed"
            click.echo(f"{path} is not here as it was: {said}.")
        return makers


@dataclass
class Reproduction:
    """Runs recorded pipelines again, each in a copy of its code."""

    project: Path
    folder: Path  # a temporary one
    copies: ExitStack  # removes the copies at its end
    uv: bool  # whether each run gets an environment of its recorded packages
    trust: bool  # whether runs that somebody else has sent are run, too

    def lay_out(self, run: Any) -> Copy:
        """Return a copy of the project as it was for a run."""
        about = recorded_options(run, self.trust)
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "code"
        copy = checkout.recorded_code(run, about, self.project, place)
        folder = self.copies.enter_context(copy)
        data = {path: digest_or_dash(folder / path) for path in about["inputs"]}
        return Copy(run, about, folder, data)

    def run(self, copy: Copy, tags: dict[str, str]) -> Any:
        """Run the pipeline of a copy; return the new run, which has the tags."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        options = place / provenance.OPTIONS_FILE
        options.write_text(json.dumps({"run": copy.about["run"]}), "utf-8")
        python = recorded_environment(copy.run, place) if self.uv else sys.executable
        command = [python, "-m", "kedro", "run", f"--config={options}"]
        return run_again(copy.run, command, copy.folder, self.project, tags)

    def remake_inputs(self, copy: Copy, makers: dict[str, str]) -> None:
        """Replay the runs that made inputs which are not here any more."""
        for maker in sorted(set(makers.values())):
            source = self.lay_out(project_runs.resolve_run(maker))
            self.remake_inputs(source, source.find_makers())
            self.run(source, {provenance.REPLAY_TAG: maker})
            for path in (path for path in makers if makers[path] == maker):
                target = copy.folder / path
                target.unlink(missing_ok=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                checkout.link_or_copy(target, source.folder / path)
                if digest_or_dash(target) != copy.about["inputs"][path]:
                    raise CommandError(
                        f"Run {maker}, replayed, makes another {path} than then: the "
                        "input of this run cannot be had again."
                    )
