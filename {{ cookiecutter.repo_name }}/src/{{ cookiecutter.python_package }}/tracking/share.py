"""``kedro share`` and ``kedro receive``: a run goes to a colleague, or to a server."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import click
from click import UsageError

from . import registry, store
from .runs import Trouble, env_option, find, project_store


@click.command()
@click.argument("run_id")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="One zip file.")
@click.option("--to", metavar="URI", help="Another store, such as http://host:5000.")
@click.option("--with-user", is_flag=True, help="Name the user who made the run.")
@env_option
@click.pass_obj
def share(metadata: Any, run_id: str, output, to, with_user, env) -> None:
    """Write everything of a run to a file, or straight into another store.

    Parameters, metrics with their histories, tags, datasets, artifacts, models, child
    runs and the tags of registered versions. Credentials, the folders of this machine
    and the user's name stay here.
    """
    if bool(output) == bool(to):
        raise UsageError("Give either -o FILE or --to URI.")
    project = Path(metadata.project_path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with project_store(project, env) as experiment:
            from . import archive, record

            reader = record.Reader(folder, project, with_user)
            found = reader.read(find(run_id, experiment))
            for path in reader.telling():
                click.echo(f"Note: {path} names a folder of this machine.", err=True)
            if output:
                archive.pack(found, folder, Path(output))
                click.echo(f"Run {found.runs[0].id} is in {output}.")
        if to:
            # As if the caller had set it, and none of what belongs to our own store.
            for variable in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
                os.environ.pop(variable, None)
            os.environ["MLFLOW_TRACKING_URI"] = to
            title = {"experiment_name": found.runs[0].experiment}
            with project_store(project, env, new=True, config=title) as experiment:
                deliver(found, folder, experiment)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--register", is_flag=True, help="Register its models, as they were.")
@click.option("--trust", is_flag=True, help="Take models that ask for other code.")
@env_option
@click.pass_obj
def receive(metadata: Any, file: str, register: bool, trust: bool, env) -> None:
    """Record the run of a file that `kedro share` has written.

    A file that is damaged, or made to do harm, is refused before anything is written.
    A run that is here already is not recorded again.
    """
    from . import archive

    with tempfile.TemporaryDirectory() as name:
        found = archive.unpack(Path(file), Path(name), trust=trust)
        if register and not found.versions:
            raise Trouble(f"The run in {file} has registered no model.")
        with project_store(metadata.project_path, env, new=True) as experiment:
            run_id = deliver(found, Path(name), experiment)
            if register:
                register_models(found, run_id)


def deliver(found: Any, folder: Path, experiment: str) -> str:
    """Record a run in the store, unless it is there, and say so; return its id."""
    from . import record

    uri = os.environ["MLFLOW_TRACKING_URI"]
    with store.locked(uri):
        run_id = record.received(found, experiment)
        said = "already is" if run_id else "is now"
        run_id = run_id or record.write(found, folder, experiment)
    origin = found.runs[0].origin
    click.echo(f"Run {origin} {said} run {run_id} at {store.mask(uri)}.")
    return run_id


def register_models(found: Any, run_id: str) -> None:
    """Register the models of a received run under the names that they had."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run: Any = client.get_run(run_id)
    outputs = run.outputs.model_outputs
    models = [client.get_logged_model(output.model_id) for output in outputs]
    here = {model.name: model for model in models}
    names = {model.id: model.name for model in found.models}
    for version in found.versions:
        model, known = here[names[version.model]], registry.latest(version.name)
        number = registry.find(model, version.name, known)
        if not number:
            tags = {"origin.version": str(version.number)}
            for key, text in version.tags.items():  # our registry has decided nothing
                tags[re.sub("^registry", "origin", key)] = text
            number = registry.register(model, version.name, tags, new=not known)
        click.echo(f"Its {model.name} is models:/{version.name}/{number}.")
