"""The runs of a project's store: find one, describe it, compare two."""

import difflib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import client, code, config, database, names, provenance, redact

# Tags of received runs and models.
SOURCE_RUN_TAG, SOURCE_EXPERIMENT_TAG = "origin.run_id", "origin.experiment"
INCOMPLETE_TAG, SOURCE_VERSIONS_TAG = "origin.incomplete", "origin.versions"
WRITER_TAG = re.compile(r"data\.(.+)\.run_id")
MADE_BY_KEDRO, NEWEST = "tags.`kedro.run_id` LIKE '%'", ["attributes.start_time DESC"]
NO_SUCH_MODEL = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
Summary = dict[str, dict[str, str]]  # what may differ: by section, then by name
env_option = click.option("--env", "-e", help="The environment of conf/ to look in.")


class CommandError(click.ClickException):
    """An error in one line; exit code 2, because 1 means that runs differ."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text without control characters, which could steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)


def log_to_stderr() -> None:
    """Have Kedro's log lines go to stderr: what is asked for goes to stdout alone."""
    for handler in logging.getLogger().handlers:
        if console := getattr(handler, "console", None):  # rich's
            console.stderr = True
        elif getattr(handler, "stream", None) is sys.stdout:
            handler.setStream(sys.stderr)  # type: ignore[attr-defined]


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

    # Kedro logs to where answers go, warnings too; none is about the user's doing.
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    log_to_stderr()
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
    except (click.ClickException, MlflowException, OSError, ValueError) as error:
        raise CommandError(redact.first_line(error)) from error


def resolve_run(given: str, experiment: str = "") -> Any:
    """Return the run that a text names.

    Args:
        given: An id or its first digits, also of a run that was received; ``last``; the
            URI of a model that it has made; or its name, if no other run has it.
        experiment: The id of the project's experiment, for ``last`` and for names.

    Raises:
        CommandError: There is none, there are several, or it was deleted.
    """
    found = find_runs(given, experiment)
    if len(found) != 1:
        uri = redact.mask(os.environ["MLFLOW_TRACKING_URI"])
        many = "Several runs match" if found else "No run"
        near = [run.info.run_id for run in found] or nearest_names(given, experiment)
        hint = f"did you mean {' or '.join(near)}?" if near else ""
        hint = hint or "`kedro runs` lists the last."
        raise CommandError(f"{many} {given} at {uri}: {hint}")
    run_id = found[0].info.run_id
    if found[0].info.lifecycle_stage == "deleted":
        restore = f"`mlflow runs restore --run-id {run_id}` brings it back"
        raise CommandError(f"Run {run_id} was deleted: {restore}.")
    if INCOMPLETE_TAG in found[0].data.tags:
        raise CommandError(f"Run {run_id} is half received: receive its file again.")
    return found[0]


def find_runs(given: str, experiment: str) -> list[Any]:
    """Return the runs that a text may name; two if there are more."""
    from mlflow import MlflowClient, models
    from mlflow.entities import ViewType

    store = MlflowClient()
    if given == "last":
        return last_runs(experiment, MADE_BY_KEDRO, 20)[:1]
    if given.startswith(("models:/", "runs:/")):
        with client.ignore_errors(*NO_SUCH_MODEL):
            return [store.get_run(models.get_model_info(given).run_id)]
        return []
    everywhere = [known.experiment_id for known in store.search_experiments()]
    active, searches = ViewType.ACTIVE_ONLY, []
    if re.fullmatch(r"[0-9a-f]{4,32}", given):
        begins = f"LIKE '{given}%'"
        searches.append((everywhere, f"attributes.run_id {begins}", ViewType.ALL))
        searches.append((everywhere, f"tags.`{SOURCE_RUN_TAG}` {begins}", active))
    if experiment and (text := names.quoted(given)):
        searches.append(([experiment], f"attributes.run_name = {text}", active))
    found = (store.search_runs(*search, max_results=2) for search in searches)
    return list(next(filter(None, found), []))


def last_runs(experiment: str, filter_: str, most: int) -> list[Any]:
    """Return the last runs that a filter finds, but none that is half received."""
    from mlflow import MlflowClient

    found = MlflowClient().search_runs(
        [experiment], filter_, max_results=most, order_by=NEWEST
    )
    return [run for run in found if INCOMPLETE_TAG not in run.data.tags]


def nearest_names(given: str, experiment: str) -> list[str]:
    """Return names of runs and models that are like one that names no run."""
    from mlflow import MlflowClient

    client, known = MlflowClient(), ["last"]
    for model in client.search_registered_models():
        known += [f"models:/{model.name}@{alias}" for alias in model.aliases]
    for version in client.search_model_versions(max_results=1000):
        known.append(f"models:/{version.name}/{version.version}")
    for run in client.search_runs([experiment], order_by=NEWEST) if experiment else ():
        known += [run.info.run_name or "", run.info.run_id[: max(8, len(given))]]
    return difflib.get_close_matches(given, known, 2)


def children_of(run: Any) -> list[Any]:
    """Return the child runs of a run in the store."""
    from mlflow import search_runs

    of_it = f"tags.`{names.PARENT_TAG}` = '{run.info.run_id}'"
    return search_runs([run.info.experiment_id], of_it, output_format="list")


def family_of(run: Any) -> Iterator[Any]:
    """Yield a run of the store, its child runs, and theirs."""
    yield run
    for child in children_of(run):
        yield from family_of(child)


def read_artifact(run: Any, name: str) -> bytes:
    """Return an artifact that describes the run; empty if there is none."""
    from mlflow import MlflowClient

    client, run_id = MlflowClient(), run.info.run_id
    path = f"{provenance.FOLDER}/{name}"
    present = client.list_artifacts(run_id, provenance.FOLDER)
    if path not in [file.path for file in present]:
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
        "made by": {n[1]: v for k, v in tags.items() if (n := WRITER_TAG.fullmatch(k))},
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
    commit = tags.get(names.COMMIT_TAG)
    return {"commit": commit, "diff": diff} if commit else {}


def differences(*summaries: Summary) -> Iterator[tuple[str, ...]]:
    """Yield section, name and the value in each summary of what differs."""
    for section in summaries[0]:
        parts = [summary[section] for summary in summaries]
        for name in sorted(set().union(*parts), key=str.lower):
            values = [part.get(name, "-") for part in parts]
            if len(set(values)) > 1:
                yield section, name, *values
