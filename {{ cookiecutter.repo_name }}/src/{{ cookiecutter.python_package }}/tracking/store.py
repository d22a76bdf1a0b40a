"""Where runs go, and what is said when they cannot."""

from __future__ import annotations

import os
import platform
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from click import ClickException
from kedro.config import MissingConfigException

# MLflow is imported inside the functions: it takes about a second, and commands that
# run no pipeline should not wait for it.

# What MLflow says when a constraint of the database or its lock stops a statement.
DATABASE_ERRORS = ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
FIRST_CONTACT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


class TrackingError(ClickException):
    """Runs cannot be recorded; the message says what to do."""


def mask(text: str) -> str:
    """Hide passwords and tokens of addresses, wherever they stand in a text."""
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(
        r"(?i)\b(user|password|passwd|pwd|token|secret)=[^&\s'\"]*", r"\1=***", text
    )


def first_line(error: BaseException) -> str:
    """Return what an error says first, without secrets."""
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return mask(said)


def read_config(loader: Any) -> dict[str, Any]:
    """Return the contents of mlflow.yml; nothing where a project has none."""
    loader.config_patterns.setdefault("mlflow", ["mlflow*", "mlflow*/**", "**/mlflow*"])
    try:
        return loader["mlflow"]
    except MissingConfigException:
        return {}


def export(name: str, value: str) -> None:
    """Set a variable of MLflow, for child processes too, and mark it as ours."""
    os.environ[name] = os.environ[f"KEDRO_{name}"] = value


def withdraw(name: str) -> None:
    """Remove a variable of MLflow that we have set."""
    if not chosen(name):
        os.environ.pop(name, None)


def chosen(name: str) -> str | None:
    """Return an environment variable of MLflow that the caller has set, not we."""
    value = os.environ.get(name)
    return None if value == os.environ.get(f"KEDRO_{name}") else value


def configure(config: dict[str, Any], project: Path) -> None:
    """Export the tracking address of mlflow.yml, unless the caller has set another.

    Args:
        config: The contents of mlflow.yml.
        project: The project's folder, where relative SQLite paths start.
    """
    if chosen("MLFLOW_TRACKING_URI") or chosen("MLFLOW_RUN_ID"):
        return
    uri = config.get("tracking_uri") or "sqlite:///mlflow.db"
    if path := re.fullmatch(r"sqlite:///([^/].*)", uri):
        uri = f"sqlite:///{(project / path[1]).as_posix()}"
    # Not `mlflow.set_tracking_uri`: its choice could not be told from the caller's.
    export("MLFLOW_TRACKING_URI", uri)


@contextmanager
def first_contact() -> Iterator[None]:
    """Guard a use of the tracking store that must not wait: the first and the last.

    Processes take turns at a SQLite file, because MLflow creates its tables without a
    lock. A server gets five seconds instead of MLflow's four minutes.

    Raises:
        TrackingError: The store cannot be used.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    before = {name: os.environ.get(name) for name in FIRST_CONTACT if not chosen(name)}
    os.environ.update({name: FIRST_CONTACT[name] for name in before})
    try:
        reach_database(uri)
        with locked(sqlite_file(uri)):
            yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow cannot record runs at {mask(uri)}: {first_line(error)} -- start "
            "or repair that store, or set MLFLOW_TRACKING_URI or conf/base/mlflow.yml "
            "to another."
        ) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value else {})


def check_contact(run_id: str) -> None:
    """Find out fast whether the run's store still answers.

    Raises:
        TrackingError: It does not; the pipeline's own outputs are saved.
    """
    from mlflow import MlflowClient

    try:
        with first_contact():
            MlflowClient().get_run(run_id)
    except TrackingError as error:
        raise TrackingError(
            f"{error.message} The pipeline's outputs are saved in data/: record them "
            "later with `kedro run --from-nodes=` and the nodes that log to MLflow."
        ) from error


def insist(call: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call MLflow, and again if another process has just written the same row."""
    from mlflow.exceptions import MlflowException

    for last in (False, False, True):
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if last or error.error_code not in DATABASE_ERRORS:
                raise
            time.sleep(0.2)


def reach_database(uri: str) -> None:
    """Open a connection to a database server: SQLAlchemy would retry for minutes."""
    address = urlsplit(uri)
    port = DATABASE_PORTS.get(address.scheme.partition("+")[0])
    if port and address.hostname:
        with socket.create_connection((address.hostname, address.port or port), 5):
            pass


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for other addresses."""
    file = re.fullmatch(r"sqlite:///([^?]+)", uri)
    return Path(file[1]) if file else None


@contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """Hold the lock beside a SQLite file; it is released even if the process dies."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = sqlite3.connect(f"{file}.lock", timeout=300, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def experiment_id(config: dict[str, Any]) -> str:
    """Return the id of the experiment that new runs belong to, creating it if needed.

    Raises:
        TrackingError: The experiment was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.get("experiment_name")
    name = name or __package__.partition(".")[0]
    if given := chosen("MLFLOW_EXPERIMENT_ID"):
        experiment = client.get_experiment(given)
    elif not (experiment := client.get_experiment_by_name(name)):
        # MLflow would put artifacts into ./mlruns of whatever directory this is.
        file = sqlite_file(os.environ["MLFLOW_TRACKING_URI"])
        folder = re.sub(r"[^\w.-]+", "_", name)
        location = str(file.absolute().parent / "mlruns" / folder) if file else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:
            if not (experiment := client.get_experiment_by_name(name)):
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The MLflow experiment '{experiment.name}' was deleted. Restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or name "
            "another in conf/base/mlflow.yml or MLFLOW_EXPERIMENT_NAME."
        )
    return experiment.experiment_id


def process_tags() -> dict[str, str]:
    """Return the tags by which a run's dead process is told."""
    return {"process.host": platform.node(), "process.pid": str(os.getpid())}


def close_dead_runs(experiment: str) -> None:
    """End as KILLED the runs of this host whose process is gone (after a kill -9)."""
    from mlflow import MlflowClient

    client = MlflowClient()
    here = f"status = 'RUNNING' and tags.`process.host` = '{platform.node()}'"
    for run in client.search_runs([experiment], here) if os.name == "posix" else ():
        try:
            os.kill(int(run.data.tags["process.pid"]), 0)
        except ProcessLookupError:
            client.set_tag(run.info.run_id, "failure.error", "the process died")
            client.set_terminated(run.info.run_id, "KILLED")
        except PermissionError:  # alive, and somebody else's
            continue
