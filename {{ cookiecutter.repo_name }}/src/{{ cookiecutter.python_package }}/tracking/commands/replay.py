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
from kedro.framework.cli import project as kedro_cli

from .. import active_run, code, datasets, parameters, provenance, redact
from . import archive, formats, project_runs, reproduce, share
from .project_runs import CommandError

# As `kedro run` reads them.
RUN_OPTIONS = {option.name: option for option in kedro_cli.run.params}
PARSE_PARAMS = RUN_OPTIONS["params"].callback


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
    yield from changes(one, other)


def changes(
    one: project_runs.Summary, other: project_runs.Summary
) -> Iterator[tuple[str, str, str]]:
    """Yield what was done differently: pipeline and status, parameters, data."""
    for section, name, then, now in project_runs.differences(one, other):
        if section in ("run", "parameters", "data"):
            yield f"{section} {name}", then, now


def variation_rows(old: Any, new: Any) -> list[tuple[str, str, str]]:
    """Return what a variation has changed, and what has come of it."""
    pair = project_runs.run_summary(old), project_runs.run_summary(new)
    first = list(changes(*pair))
    runners = [run.data.tags.get("kedro.runner", "-") for run in (old, new)]
    decided = [run.data.tags.get("registry.decision", "-") for run in (old, new)]
    first += [("runner", *runners)] if len(set(runners)) > 1 else []
    rest = [row for row in compare_outcome(old, new) if row not in first]
    return [*first, *rest, ("promotion", *decided)]


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
@click.argument("given", metavar="RUN")
@click.option(
    "--params",
    default="",
    callback=PARSE_PARAMS,
    help="Parameters in place of its own.",
)
@click.option("--pipelines", help="Pipelines in place of its own.")
@click.option("--to-nodes", help="Nodes to stop at.")
@click.option("--runner", help="Another runner, such as ThreadRunner.")
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
def replay(
    metadata: Any, given: str, dry_run, env_manager, trust, env, **varied
) -> None:
    """Run a recorded run again, and compare.

    The same pipeline with the same parameters, environment and filters runs in a
    temporary folder, from the recorded commit and the changes to it. Nothing here is
    touched; no model is registered.

    With --params, --pipelines, --to-nodes or --runner, as `kedro run` takes them, it is
    a variation: a run like any other, whose model may become champion.

    A RUN is an id or its first digits, "last", a model such as models:/NAME@champion,
    the run's name, or a file of `kedro share`, which is received first.

    Exit status: 0 if all metrics and models are equal, 1 if not, 2 in trouble. A
    variation that has finished is 0.
    """
    project = Path(metadata.project_path)
    changed = {name: value for name, value in varied.items() if value}
    signal.signal(signal.SIGTERM, active_run.exit_on_sigterm)  # so that nothing is left
    file = Path(given) if given.endswith(".zip") else None
    with (
        project_runs.project_store(project, env, {} if file else None) as experiment,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        ExitStack() as copies,
    ):
        folder = Path(name)
        run_id = receive_one(file, folder, experiment, trust) if file else given
        old = project_runs.resolve_run(run_id, experiment)
        about = reproduce.recorded_options(old, trust)
        copy = copies.enter_context(
            reproduce.recorded_code(
                old, reproduce.needed(about), project, folder / "code"
            )
        )
        lost = report_differences(old, about, project, copy)
        about["run"] = vary(about["run"], changed)
        if dry_run:
            reproduce.report_lost_inputs(lost, about)
            return
        environment = reproduce.Environment(project, folder, env_manager == "uv", trust)
        reproduce.remake_inputs(lost, about, copy, environment, copies)
        tags = variation_of(old, changed) if changed else reproduce.replay_of(old)
        new = environment.run_again(old, about, copy, tags)
        ids = old.info.run_id[:8], new.info.run_id[:8]
        if changed and new.info.status != "FINISHED":
            raise CommandError(f"The variation has failed: run {new.info.run_id}.")
        rows = variation_rows(old, new) if changed else list(compare_outcome(old, new))
    click.echo(formats.table([("", *ids), *rows]))
    if changed:
        return
    equal = all(one == other for _, one, other in rows)
    click.echo("equal" if equal else "different")
    raise SystemExit(not equal)


def report_differences(
    old: Any, about: dict[str, Any], project: Path, copy: Path
) -> list[str]:
    """Say what differs here from what a run recorded; return the inputs that do."""
    data = {path: reproduce.digest_or_dash(copy / path) for path in about["inputs"]}
    here, then = local_summary(project), project_runs.run_summary(old)
    here, then = here | {"data": data}, then | {"data": about["inputs"]}
    if differ := list(project_runs.differences(here, then)):
        click.echo(formats.table([("", "", "here", "then"), *differ]))
    else:
        click.echo("Here everything is as it was then.")
    return [path for path in data if data[path] != about["inputs"][path]]


def vary(recorded: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run with others in their place; parameters are merged."""
    params = parameters.expand_dotted(recorded.get("params", {}))
    merged = {"params": merge(params, changed.get("params", {}))}
    if "runner" in changed:  # which takes other arguments
        recorded = {k: v for k, v in recorded.items() if k != "runner_params"}
    return recorded | changed | (merged if "params" in changed else {})


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return nested parameters with others in their place."""
    both = {
        name: merge(old[name], value)
        for name, value in new.items()
        if isinstance(value, dict) and isinstance(old.get(name), dict)
    }
    return old | new | both


def variation_of(old: Any, changed: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a variation: of which run, and what was changed."""
    said = provenance.command_line(redact.mask_values(changed))
    text = said.removeprefix("kedro run ")[:5000]
    return {provenance.VARIATION_TAG: old.info.run_id, provenance.CHANGES_TAG: text}


def receive_one(file: Path, folder: Path, experiment: str, trust: bool) -> str:
    """Receive the run of a file, and return its id here.

    Raises:
        CommandError: There is no such file, it holds several runs, or is not trusted.
    """
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    if not trust:
        raise CommandError(
            f"{file} is somebody else's code: receive it and look, or use --trust."
        )
    (place := folder / "received").mkdir()
    found = archive.unpack(file, place, trust=True)
    if len(found) > 1:
        raise CommandError(
            f"{file} holds {len(found)} runs: receive it, then name one."
        )
    (run_id,) = share.import_all(found, experiment)
    return run_id
