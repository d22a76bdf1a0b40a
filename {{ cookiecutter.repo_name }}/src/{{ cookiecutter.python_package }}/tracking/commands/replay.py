"""``kedro replay``: a run once more, from its own code; and is it equal?"""

import re
import signal
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli import project as kedro_cli
from omegaconf import OmegaConf

from .. import code, datasets, names, parameters, provenance, redact
from . import formats, project_runs, reproduce
from .project_runs import CommandError

# `kedro run` reads its --params by this function.
PARSE_PARAMS = next(o.callback for o in kedro_cli.run.params if o.name == "params")


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
    from .. import active_run

    project = Path(metadata.project_path)
    changed = {name: value for name, value in varied.items() if value}
    file = Path(given) if given.endswith(".zip") else None
    signal.signal(signal.SIGTERM, active_run.exit_on_sigterm)  # so that nothing is left
    with (
        project_runs.project_store(project, env, {} if file else None) as experiment,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        ExitStack() as copies,
    ):
        uv = env_manager == "uv"
        again = reproduce.Reproduction(project, Path(name), copies, uv, trust)
        run_id = receive_one(file, Path(name), experiment, trust) if file else given
        old = project_runs.resolve_run(run_id, experiment)
        copy = again.lay_out(old)
        report_differences(copy, project)
        makers = copy.find_makers()
        if dry_run:
            return
        again.remake_inputs(copy, makers)
        copy.about["run"] = vary(copy.about["run"], changed)
        new = again.run(copy, repetition_tags(old.info.run_id, changed))
        if changed and new.info.status != "FINISHED":
            raise CommandError(f"The variation has failed: run {new.info.run_id}.")
        rows = compare(old, new, bool(changed))
    ids = old.info.run_id[:8], new.info.run_id[:8]
    click.echo(formats.table([("", *ids), *rows]))
    if not changed:
        equal = all(one == other for _, one, other in rows)
        click.echo("equal" if equal else "different")
        raise SystemExit(not equal)


def receive_one(file: Path, folder: Path, experiment: str, trust: bool) -> str:
    """Receive the run of a file, and return its id here."""
    from . import archive, record

    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    if not trust:
        look = "receive it and look, or use --trust"
        raise CommandError(f"{file} is somebody else's code: {look}.")
    (place := folder / "received").mkdir()
    found = archive.unpack(file, place, trust=True)
    if len(found) > 1:
        several = f"{len(found)} runs: receive it, then name one"
        raise CommandError(f"{file} holds {several}.")
    return record.import_all(found, experiment)[0]


def report_differences(copy: reproduce.Copy, project: Path) -> None:
    """Say in what this machine differs from what a run has recorded."""
    state = code.git_state(project)
    if state.get("git.dirty") == "true":
        state["git.diff"] = code.uncommitted_changes(project)[1]
    here = {
        "packages": project_runs.parse_packages(code.installed_packages(project)),
        "code": project_runs.code_summary(state),
        "data": copy.data,
    }
    then = project_runs.run_summary(copy.run) | {"data": copy.about["inputs"]}
    if differ := list(project_runs.differences(here, then)):
        click.echo(formats.table([("", "", "here", "then"), *differ]))
    else:
        click.echo("Here everything is as it was then.")


def vary(recorded: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run with others in their place; parameters are merged."""
    varied = recorded | changed
    if "params" in changed:
        own = parameters.expand_dotted(recorded.get("params", {}))
        merged = OmegaConf.merge(own, changed["params"])
        varied["params"] = OmegaConf.to_container(merged)
    if "runner" in changed:  # which takes other arguments
        varied.pop("runner_params", None)
    return varied


def repetition_tags(run_id: str, changed: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a replay; of a variation, they say what was changed."""
    if not changed:
        return {provenance.REPLAY_TAG: run_id}
    said = provenance.command_line(redact.mask_values(changed))
    text = said.removeprefix("kedro run ")[: names.MAX_TAG]
    return {provenance.VARIATION_TAG: run_id, provenance.CHANGES_TAG: text}


def compare(old: Any, new: Any, varied: bool) -> list[tuple[str, ...]]:
    """Return what two runs did differently, and what has come of it.

    Only where the new run was to differ, runner and promotion are compared.
    """
    then, now = project_runs.run_summary(old), project_runs.run_summary(new)
    if names.ENTRY_POINT_TAG in old.data.tags:  # MLflow has added those of MLproject
        ours = now["parameters"].keys()
        then["parameters"] = {k: v for k, v in then["parameters"].items() if k in ours}
    rows: list[tuple[str, ...]] = [
        (f"{section} {name}", *values)
        for section, name, *values in project_runs.differences(then, now)
        if section in ("run", "parameters", "data")
    ]
    runners = [run.data.tags.get("kedro.runner", "-") for run in (old, new)]
    if varied and len(set(runners)) > 1:
        rows.append(("runner", *runners))
    models = model_fingerprints(old), model_fingerprints(new)
    for one, other in ((then["metrics"], now["metrics"]), models):
        for name in sorted(one.keys() | other.keys()):
            rows.append((name, one.get(name, "-"), other.get(name, "-")))
    if varied:
        decisions = (run.data.tags.get("registry.decision", "-") for run in (old, new))
        rows.append(("promotion", *decisions))
    return rows


def model_fingerprints(run: Any) -> dict[str, str]:
    """Return a digest of each model's fitted parameters, by name."""
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
    """Return the fitted content of a model's file, without times and places."""
    if file.suffix in ("", ".yaml", ".txt"):
        return b""
    if file.suffix != ".skops":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        schema = re.sub(r'"__id__": \d+', "", archive.read("schema.json").decode())
        for entry in archive.infolist():
            schema = schema.replace(entry.filename, str(entry.CRC))
    return schema.encode()
