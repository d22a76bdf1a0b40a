"""``kedro share`` and ``kedro receive``: runs go to a colleague, or to a server."""

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click

from .. import database, names, redact, registry
from . import archive, project_runs
from .project_runs import CommandError


def import_run(found: Any, folder: Path, experiment: str) -> tuple[str, bool]:
    """Write a run into the store unless it is there; return its id, and if it is new.

    Raises:
        CommandError: Something of it did not arrive.
    """
    from mlflow import MlflowClient

    from . import counts, record

    uri, client = os.environ["MLFLOW_TRACKING_URI"], MlflowClient()
    made = record.by_key(found.run.data.tags)[project_runs.SOURCE_RUN_TAG]
    with database.database_lock(uri):
        left = client.search_runs(
            [experiment], f"tags.`{project_runs.INCOMPLETE_TAG}` = '{made}'"
        )
        record.delete_runs(left, experiment)
        same = (
            f"tags.`{project_runs.SOURCE_RUN_TAG}` = '{made}'",
            f"attributes.run_id = '{made}'",
        )
        here = [
            run for query in same for run in client.search_runs([experiment], query)
        ]
        said = "already is" if here else "is now"
        run_id = (
            here[0].info.run_id
            if here
            else record.write_record(found, folder, experiment)
        )
    click.echo(f"Run {made} {said} run {run_id} at {redact.mask(uri)}.")
    if lost := counts.in_record(found, folder) - counts.in_store(run_id):
        raise CommandError(
            f"Of run {made}, {counts.in_words(lost)} did not arrive in {run_id}."
        )
    return run_id, not here


def import_all(found: list[tuple[Any, Path]], experiment: str) -> list[str]:
    """Write runs into the store, and say how many there were; return their ids."""
    from . import counts

    ids = [import_run(one, folder, experiment) for one, folder in found]
    total = sum((counts.in_record(*one) for one in found), Counter())
    new = sum(is_new for _, is_new in ids)
    click.echo(f"All is there: {counts.in_words(total)}. New: {new} of {len(ids)}.")
    return [run_id for run_id, _ in ids]


def choose_runs(given: tuple[str, ...], all_of_it: bool, experiment: str) -> list[Any]:
    """Return the runs to share, without those that their parents take along."""
    from . import record

    if not all_of_it:
        found = {
            run.info.run_id: run
            for run in (project_runs.resolve_run(name, experiment) for name in given)
        }
    else:
        found = {run.info.run_id: run for run in record.all_runs(experiment)}
        left: set[str] = set()
        for run in found.values():  # with those that a run is a child of
            ended = run.info.status in record.END_STATUSES
            half = project_runs.INCOMPLETE_TAG in run.data.tags
            while (half or not ended) and run and run.info.run_id not in left:
                left.add(run.info.run_id)
                run = found.get(run.data.tags.get(names.PARENT_TAG, ""))
        for run_id in sorted(left):
            click.echo(f"Run {run_id} has not ended, or is half received: left out.")
        found = {run_id: run for run_id, run in found.items() if run_id not in left}
    parents = ((run.data.tags.get(names.PARENT_TAG), run) for run in found.values())
    return [run for parent, run in parents if parent not in found]


@click.command()
@click.argument("given", metavar="[RUN]...", nargs=-1)
@click.option("--experiment", "all_of_it", is_flag=True, help="All of the project's.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="One zip file.")
@click.option("--to", metavar="URI", help="Another store, such as http://host:5000.")
@click.option("--with-user", is_flag=True, help="Name the user who made the run.")
@project_runs.env_option
@click.pass_obj
def share(metadata: Any, given, all_of_it, output, to, with_user, env) -> None:
    """Write everything of runs to a file, or straight into another store.

    Parameters, metrics with their histories, tags, datasets, artifacts, models, child
    runs and the tags of registered versions. Credentials, the folders of this machine
    and the user's name stay here. A RUN is an id or its first digits, "last", a model
    such as models:/NAME@champion, or the run's name.
    """
    if bool(output) == bool(to):
        raise click.UsageError("Give either -o FILE or --to URI.")
    if bool(given) == all_of_it:
        raise click.UsageError("Give either runs or --experiment.")
    from . import counts

    project = Path(metadata.project_path)
    with tempfile.TemporaryDirectory() as name:
        with project_runs.project_store(project, env) as experiment:
            runs = choose_runs(given, all_of_it, experiment)
            found = read_runs(runs, Path(name), project, with_user)
            if output:
                archive.pack([about for about, _ in found], Path(name), Path(output))
                total = sum((counted for _, counted in found), Counter())
                click.echo(f"In {output}: {counts.in_words(total)}.")
                return
        send_runs(to, project, env, Path(name), [about for about, _ in found])


def read_runs(
    runs: list[Any], folder: Path, project: Path, with_user: bool
) -> list[tuple[dict[str, Any], Counter[str]]]:
    """Return runs as JSON, with what each of them holds.

    Raises:
        CommandError: There is none, or the store has more than was read.
    """
    from . import counts, record

    if not runs:
        raise CommandError("There is no run to share.")
    found = []
    for run, place in zip(runs, archive.run_folders(folder, len(runs)), strict=True):
        stored = counts.in_store(run.info.run_id)
        about = record.read_record(run, place, project, with_user)
        counted = counts.in_record(record.parse_record(about), place)
        if lost := stored - counted:
            raise CommandError(
                f"Of run {run.info.run_id}, {counts.in_words(lost)} was not read."
            )
        found.append((about, counted))
    return found


def send_runs(
    to: str, project: Path, env: str | None, folder: Path, records: list[Any]
) -> None:
    """Write runs straight into another store, each to the experiment it is from."""
    from . import record

    # As if the caller had set it, and none of what belongs to our own store.
    for variable in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(variable, None)
    os.environ["MLFLOW_TRACKING_URI"] = to
    places = archive.run_folders(folder, len(records))
    found = list(zip(map(record.parse_record, records), places, strict=True))

    def experiment_of(one: tuple[Any, Path]) -> str:
        tags = record.by_key(one[0].run.data.tags)
        return tags[project_runs.SOURCE_EXPERIMENT_TAG]

    ordered = sorted(found, key=experiment_of)
    for name, group in itertools.groupby(ordered, experiment_of):
        title = {"experiment_name": name}
        with project_runs.project_store(project, env, title) as experiment:
            import_all(list(group), experiment)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--register", is_flag=True, help="Register its models, as they were.")
@click.option("--trust", is_flag=True, help="Take models that ask for other code.")
@project_runs.env_option
@click.pass_obj
def receive(metadata: Any, file: str, register: bool, trust: bool, env) -> None:
    """Record the runs of a file that `kedro share` has written.

    A file that is damaged, or made to do harm, is refused before anything is written.
    A run that is here already is not recorded again: what was interrupted is repeated.
    """
    with tempfile.TemporaryDirectory() as name:
        found = archive.unpack(Path(file), Path(name), trust=trust)
        with project_runs.project_store(metadata.project_path, env, {}) as experiment:
            for run_id in import_all(found, experiment):
                if register:
                    register_models(run_id)


def register_models(run_id: str) -> None:
    """Register the models of a received run under the names that they had."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run: Any = client.get_run(run_id)
    for output in run.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        for version in json.loads(
            model.tags.get(project_runs.SOURCE_VERSIONS_TAG, "[]")
        ):
            name, known = version["name"], registry.latest_versions(version["name"])
            number = registry.version_of(model, name, known)
            if not number:  # what their registry decided is no decision of ours
                tags = version["tags"].items()
                tags = {re.sub("^registry", "origin", key): v for key, v in tags}
                number = registry.register_version(model, name, tags, new=not known)
            click.echo(f"Its {model.name} is models:/{name}/{number}.")
