"""``kedro share`` and ``kedro receive``: runs go to a colleague, or to a server."""

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from . import project_runs


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
    from . import archive, counts, export

    project = Path(metadata.project_path)
    with tempfile.TemporaryDirectory() as name:
        with project_runs.project_store(project, env) as experiment:
            runs = export.choose_runs(given, experiment)
            found = export.read_runs(runs, Path(name), project, with_user)
            if output:
                archive.pack([one.about for one in found], Path(name), Path(output))
                click.echo(f"In {output}: {counts.in_words(counts.in_records(found))}.")
        if to:
            send_runs(to, project, env, found)


def send_runs(to: str, project: Path, env: str | None, found: list[Any]) -> None:
    """Write runs straight into another store, each to the experiment it is from."""
    from . import record

    # As if the caller had set it, and none of what belongs to our own store.
    for variable in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(variable, None)
    os.environ["MLFLOW_TRACKING_URI"] = to
    tag = project_runs.SOURCE_EXPERIMENT_TAG
    for name in sorted({one.tags[tag] for one in found}):
        title = {"experiment_name": name}
        with project_runs.project_store(project, env, title) as experiment:
            record.import_all(
                [one for one in found if one.tags[tag] == name], experiment
            )


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
    from . import archive, record

    with tempfile.TemporaryDirectory() as name:
        found = archive.unpack(Path(file), Path(name), trust=trust)
        with project_runs.project_store(metadata.project_path, env, {}) as experiment:
            for run_id in record.import_all(found, experiment):
                if register:
                    record.register_models(run_id)
