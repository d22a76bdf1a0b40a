"""The runs of a project's store: find one, describe it, compare two."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click import ClickException

from .. import client, code, config, database, names, provenance, redact

# Tags of received runs and models.
SOURCE_RUN_TAG, SOURCE_EXPERIMENT_TAG = "origin.run_id", "origin.experiment"
INCOMPLETE_TAG, SOURCE_VERSIONS_TAG = "origin.incomplete", "origin.versions"
WRITER_TAG = re.compile(r"data\..+\.run_id")
Summary = dict[str, dict[str, str]]  # what may differ: by section, then by name
env_option = click.option("--env", "-e", help="The environment of conf/ to look in.")


class CommandError(ClickException):
    """An error in one line; exit code 2, because 1 means that runs differ."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text without control characters, which could steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)


@contextmanager
def project_store(
    project: Path, env: str | None, to: dict[str, Any] | None = None
) -> Iterator[str]:
    """Open the store of the project; yield the id of its experiment.

    What goes wrong is one line. Only with ``to``, in the place of mlflow.yml, may a
    store be made.
    """
    from kedro.framework.session import KedroSession
    from mlflow.exceptions import MlflowException

    # Kedro has warnings logged, to where answers go; none is about the user's doing.
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        session: Any = KedroSession.create(project, env=env)
        with session:
            settings = config.read_config(session.load_context().config_loader)
        file = database.sqlite_file(os.environ["MLFLOW_TRACKING_URI"])
        if file and not file.exists() and to is None:
            raise CommandError(f"No runs in {file} yet: `kedro run` makes the first.")
        with client.verify_store(project):
            experiment = config.experiment_id(to or settings, project)
        yield experiment
    except (ClickException, MlflowException, OSError, ValueError) as error:
        raise CommandError(redact.first_line(error)) from error


def resolve_run(given: str) -> Any:
    """Return the run with this id, or with an id that begins like this.

    Raises:
        CommandError: There is none, there are several, or it was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client, found = MlflowClient(), []
    if re.fullmatch(r"[0-9a-f]{4,32}", given):
        where = [experiment.experiment_id for experiment in client.search_experiments()]
        begins = f"attributes.run_id LIKE '{given}%'"
        found = list(client.search_runs(where, begins, ViewType.ALL, max_results=2))
    if len(found) != 1:
        uri = redact.mask(os.environ["MLFLOW_TRACKING_URI"])
        many = "Several runs begin with" if found else "No run"
        raise CommandError(f"{many} {given} at {uri}: `kedro runs` lists the last.")
    run_id = found[0].info.run_id
    if found[0].info.lifecycle_stage == "deleted":
        restore = f"`mlflow runs restore --run-id {run_id}` brings it back"
        raise CommandError(f"Run {run_id} was deleted: {restore}.")
    if INCOMPLETE_TAG in found[0].data.tags:
        raise CommandError(f"Run {run_id} is half received: receive its file again.")
    return found[0]


def read_artifact(run: Any, name: str) -> bytes:
    """Return an artifact that describes the run; empty if there is none."""
    from mlflow import MlflowClient

    client, run_id, path = (
        MlflowClient(),
        run.info.run_id,
        f"{provenance.FOLDER}/{name}",
    )
    if path not in [
        file.path for file in client.list_artifacts(run_id, provenance.FOLDER)
    ]:
        return b""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()


def run_summary(run: Any) -> Summary:
    """Return what can differ between runs: by section, then by name."""
    tags, inputs = run.data.tags, run.inputs.dataset_inputs
    known = {name: tags.get(f"kedro.{name}", "?") for name in ("pipeline", "env")}
    return {
        "run": {"status": run.info.status, **known},
        "parameters": dict(run.data.params),
        "metrics": {name: repr(value) for name, value in run.data.metrics.items()},
        "data": {used.dataset.name: used.dataset.digest for used in inputs},
        "made by": {k[5:-7]: v for k, v in tags.items() if WRITER_TAG.fullmatch(k)},
        "packages": parse_packages(read_artifact(run, code.PACKAGES_FILE).decode()),
        "code": code_summary(tags),
    }


def parse_packages(text: str) -> dict[str, str]:
    """Return the version or source of each package."""
    lines = (line.lstrip("# ") for line in text.splitlines())
    found = (re.split(r"==| @ | ", line, maxsplit=1) for line in lines)
    return {part[0]: part[1] for part in found if len(part) == 2}


def code_summary(tags: dict[str, str]) -> dict[str, str]:
    """Return the commit of a run and the digest of the changes to it."""
    dirty = tags.get("git.dirty") == "true"
    diff = tags.get("git.diff", "?") if dirty else "none"
    return (
        {"commit": tags[names.COMMIT_TAG], "diff": diff}
        if names.COMMIT_TAG in tags
        else {}
    )


def differences(one: Summary, other: Summary) -> Iterator[tuple[str, str, str, str]]:
    """Yield section, name and both values of each difference."""
    for section, here in one.items():
        there = other[section]
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
