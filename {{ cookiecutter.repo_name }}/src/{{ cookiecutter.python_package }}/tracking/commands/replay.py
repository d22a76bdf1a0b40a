"""``kedro replay``: a run once more, from its own code; and is it equal?"""

from __future__ import annotations

import re
import signal
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from .. import active_run, code, datasets
from . import formats, project_runs, reproduce


def local_summary(project: Path) -> project_runs.Summary:
    """Return packages and code of this machine, like ``run_summary``."""
    state = code.git_state(project)
    if state.get("git.dirty") == "true":
        state["git.diff"] = code.uncommitted_changes(project)[1]
    installed = project_runs.parse_packages(code.installed_packages(project))
    return {"packages": installed, "code": project_runs.code_summary(state)}


def compare_outcome(old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield metrics and models of both runs, and other differences."""
    one, other = project_runs.run_summary(old), project_runs.run_summary(new)
    models = model_fingerprints(old), model_fingerprints(new)
    for then, now in ((one["metrics"], other["metrics"]), models):
        for name in sorted(then.keys() | now.keys()):
            yield name, then.get(name, "-"), now.get(name, "-")
    for section, name, *values in project_runs.differences(one, other):
        if section in ("run", "parameters", "data"):
            yield f"{section} {name}", values[0], values[1]


def model_fingerprints(run: Any) -> dict[str, str]:
    """Return a digest of each model's learnt parameters, by name."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    found = {}
    for output in run.outputs.model_outputs:
        model = MlflowClient().get_logged_model(output.model_id)
        with tempfile.TemporaryDirectory() as name:
            place = Path(download_artifacts(model.artifact_location, dst_path=name))
            files = [file for file in sorted(place.rglob("*")) if file.is_file()]
            text = b"".join(map(fingerprint_file, files))
        found[f"model {model.name}"] = datasets.md5(text)
    return found


def fingerprint_file(file: Path) -> bytes:
    """Return the learnt content of a model's file, without times and places."""
    if file.suffix in ("", ".yaml", ".txt"):
        return b""
    if file.suffix != ".skops":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        schema = re.sub(r'"__id__": \d+', "", archive.read("schema.json").decode())
        for entry in archive.infolist():
            schema = schema.replace(entry.filename, str(entry.CRC))
    return schema.encode()


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
@project_runs.env_option
@click.pass_obj
def replay(metadata: Any, run_id: str, dry_run, env_manager, trust, env) -> None:
    """Run a recorded run again, and compare.

    The same pipeline with the same parameters, environment and filters runs in a
    temporary folder, from the recorded commit and the changes to it. Nothing here is
    touched; no model is registered.

    Exit status: 0 if all metrics and models are equal, 1 if not, 2 in trouble.
    """
    project = Path(metadata.project_path)
    signal.signal(signal.SIGTERM, active_run.exit_on_sigterm)  # so that nothing is left
    with (
        project_runs.project_store(project, env) as experiment,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        ExitStack() as copies,
    ):
        old, folder = project_runs.resolve_run(run_id, experiment), Path(name)
        about = reproduce.recorded_options(old, trust)
        copy = copies.enter_context(
            reproduce.recorded_code(old, about["inputs"], project, folder / "code")
        )
        data = {path: reproduce.digest_or_dash(copy / path) for path in about["inputs"]}
        here, then = local_summary(project), project_runs.run_summary(old)
        differ = list(
            project_runs.differences(
                here | {"data": data}, then | {"data": about["inputs"]}
            )
        )
        if differ:
            click.echo(formats.table([("", "", "here", "then"), *differ]))
        else:
            click.echo("Here everything is as it was then.")
        lost = [path for path in data if data[path] != about["inputs"][path]]
        if dry_run:
            reproduce.report_lost_inputs(lost, about)
            return
        environment = reproduce.Environment(project, folder, env_manager == "uv", trust)
        reproduce.remake_inputs(lost, about, copy, environment, copies)
        new = environment.run_again(old, about, copy)
        rows = [
            ("", old.info.run_id[:8], new.info.run_id[:8]),
            *compare_outcome(old, new),
        ]
    click.echo(formats.table(rows))
    equal = all(one == other for _, one, other in rows[1:])
    click.echo("equal" if equal else "different")
    raise SystemExit(not equal)
