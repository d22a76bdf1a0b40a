"""``kedro runs``: the last runs at a glance, and what differs between two of them."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click import ClickException

from . import origin, store

ORIGIN, INCOMPLETE = "origin.run_id", "origin.incomplete"  # tags of received runs
env_option = click.option("--env", "-e", help="The environment of conf/ to look in.")


class Trouble(ClickException):
    """What stops a command, in a line; 1 says that runs differ, as with ``diff``."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text, which may come from anybody, without what steers a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)


@contextmanager
def project_store(
    project: Path,
    env: str | None,
    *,
    new: bool = False,
    config: dict[str, Any] | None = None,
) -> Iterator[str]:
    """Lead MLflow to where ``kedro run`` records; what goes wrong is one line.

    Args:
        project: The project's folder.
        env: Kedro's environment, None for the default one.
        new: Whether a store may be made.
        config: In the place of mlflow.yml.

    Yields:
        The id of the project's experiment.
    """
    from kedro.framework.session import KedroSession
    from mlflow.exceptions import MlflowException

    # Kedro has warnings logged, to where answers go; none is about the user's doing.
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        session: Any = KedroSession.create(project, env=env)
        with session:
            written = store.read_config(session.load_context().config_loader)
        file = store.sqlite_file(os.environ["MLFLOW_TRACKING_URI"])
        if file and not file.exists() and not new:
            raise ClickException(f"No runs in {file} yet: `kedro run` makes the first.")
        with store.first_contact(project):
            experiment = store.experiment_id(config or written, project)
        yield experiment
    except ClickException as error:
        raise Trouble(error.message) from error
    except (MlflowException, OSError) as error:
        raise Trouble(store.first_line(error)) from error


def find(given: str, experiment: str) -> Any:
    """Return the run of an id, or of the first digits of one in the experiment.

    Raises:
        ClickException: There is none, there are several, or it was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, uri = MlflowClient(), store.mask(os.environ["MLFLOW_TRACKING_URI"])
    found: Sequence[Any] = []
    if re.fullmatch(r"[0-9a-f]{32}", given):
        try:
            found = [client.get_run(given)]
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    elif re.fullmatch(r"[0-9a-f]{4,31}", given):
        begins = f"attributes.run_id LIKE '{given}%'"
        found = client.search_runs([experiment], begins, max_results=2)
    if len(found) > 1:
        raise ClickException(f"Several runs begin with {given}: give more of the id.")
    if not found:
        raise ClickException(f"No run {given} at {uri}: `kedro runs` lists the last.")
    (run,) = found
    run_id = run.info.run_id
    if run.info.lifecycle_stage == "deleted":
        raise ClickException(
            f"Run {run_id} was deleted: `mlflow runs restore --run-id {run_id}` brings "
            "it back."
        )
    if INCOMPLETE in run.data.tags:
        raise ClickException(f"Run {run_id} is half received: receive its file again.")
    return run


def artifact(run: Any, name: str) -> str | None:
    """Return a text that every run has in its artifacts, None where it is missing."""
    from mlflow import MlflowClient

    path = f"{origin.FOLDER}/{name}"
    client, run_id = MlflowClient(), run.info.run_id
    if path not in [file.path for file in client.list_artifacts(run_id, origin.FOLDER)]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(client.download_artifacts(run_id, path, folder))
        return file.read_text("utf-8", "surrogateescape")


def facts(run: Any) -> dict[str, dict[str, str]]:
    """Return what may differ between runs: by section, then by name."""
    tags, found = run.data.tags, parse_packages(artifact(run, origin.PACKAGES) or "")
    dirty = tags.get("git.diff", "?") if tags.get("git.dirty") == "true" else "none"
    commit = tags.get("mlflow.source.git.commit")
    return {
        "run": {
            "status": run.info.status,
            **{name: tags.get(f"kedro.{name}", "?") for name in ("pipeline", "env")},
        },
        "parameters": dict(run.data.params),
        "metrics": {name: repr(value) for name, value in run.data.metrics.items()},
        "data": {
            used.dataset.name: used.dataset.digest for used in run.inputs.dataset_inputs
        },
        "packages": found | {"python": tags.get("python.version", "?")},
        "code": {"commit": commit or "?", "diff": dirty if commit else "?"},
    }


def parse_packages(text: str) -> dict[str, str]:
    """Return versions, or where else a package came from, by name."""
    lines = (line.lstrip("# ") for line in text.splitlines())
    found = (re.split(r"==| @ ", line, maxsplit=1) for line in lines)
    return {part[0]: part[1] for part in found if len(part) == 2}


def differences(
    one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield section, name and both values of what differs; ``-`` for what is missing.

    Args:
        one: As ``facts`` returns them.
        other: The same; what only one of them has as a section is not compared.
    """
    for section in [name for name in one if name in other]:
        here, there = one[section], other[section]
        for name in sorted(here.keys() | there.keys(), key=str.lower):
            pair = here.get(name, "-"), there.get(name, "-")
            if pair[0] != pair[1]:
                yield section, name, *pair


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out rows in columns; long values are cut."""
    shown = [[printable(cell) for cell in row] for row in rows]
    cut = [[cell if len(cell) <= 40 else f"{cell[:39]}…" for cell in r] for r in shown]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in cut)
    return "\n".join(line.rstrip() for line in lines)


@click.group(invoke_without_command=True)
@click.option("--last", "-n", default=10, show_default=True, help="How many runs.")
@env_option
@click.pass_context
def runs(context: click.Context, last: int, env: str | None) -> None:
    """Show the last runs of this project: newest first, an id a line.

    Exit status: 0, or 2 in trouble.
    """
    if context.invoked_subcommand:
        return
    from mlflow import MlflowClient

    with project_store(context.obj.project_path, env) as experiment:
        made_by_kedro = "tags.`kedro.run_id` LIKE '%'"
        newest = ["attributes.start_time DESC"]
        pages = MlflowClient().search_runs(
            [experiment], made_by_kedro, max_results=last, order_by=newest
        )
    found = [run for run in pages if INCOMPLETE not in run.data.tags]
    judged = (run.data.tags.get("registry.metric") for run in found)
    metric = next(filter(None, judged), "metric")
    rows = [("run", "started", "pipeline", "status", metric, "commit", "")]
    for run in found:
        tags, started = run.data.tags, datetime.fromtimestamp(run.info.start_time / 1e3)
        rows.append(
            (
                run.info.run_id[:8],
                f"{started:%Y-%m-%d %H:%M:%S}",
                tags.get("kedro.pipeline", ""),
                run.info.status,
                f"{run.data.metrics[metric]:.4g}" if metric in run.data.metrics else "",
                tags.get("mlflow.source.git.commit", "none")[:7],
                "dirty" if tags.get("git.dirty") == "true" else "",
            )
        )
    click.echo(table(rows) if found else "No runs yet: `kedro run` makes the first.")


@runs.command()
@click.argument("one", metavar="RUN_ID")
@click.argument("other", metavar="RUN_ID")
@env_option
@click.pass_obj
def diff(metadata: Any, one: str, other: str, env: str | None) -> None:
    """Show what differs between two runs, and nothing that does not.

    Parameters, metrics, data, packages and code. The first digits of an id are enough.

    Exit status: 0 if nothing differs, 1 if something does, 2 in trouble.
    """
    with project_store(metadata.project_path, env) as experiment:
        pair = [find(given, experiment) for given in (one, other)]
        found = list(differences(*map(facts, pair)))
    if not found:
        click.echo("equal")
        return
    ids = [run.info.run_id[:8] for run in pair]
    click.echo(table([("", "", *ids), *found]))
    commits = [run.data.tags.get("mlflow.source.git.commit") for run in pair]
    if None not in commits and commits[0] != commits[1]:
        click.echo(f"The code: git diff {commits[0][:7]} {commits[1][:7]}")
    raise SystemExit(1)
