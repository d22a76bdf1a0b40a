"""Where runs go, how long their store is waited for, and what is said when it fails.

MLflow is imported inside functions: it takes a second, for which commands that run no
pipeline should not wait.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from click import ClickException
from kedro.config import MissingConfigException

from .redact import first_line, mask

ANSWER = 10  # seconds in which a server that many meet at once should have answered
# MLflow doubles its waits: one retry comes at once, four take half a minute, five one.
FIRST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER),
}
HURRIED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
LAST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
# The keys of mlflow.yml, and their types.
SETTINGS: dict[str, Any] = {
    "tracking_uri": str,
    "experiment_name": str,
    "artifact_location": str,
    "lock_timeout": (int, float),
}
QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
DATABASES = ("postgresql", "mysql", "mssql")
LOCKS = {
    "postgresql": "SELECT pg_advisory_lock(hashtext('mlflow'))",
    "mysql": "SELECT GET_LOCK('mlflow', 300)",
}
# What MLflow says when a constraint of the database or its lock stops a statement.
DATABASE_ERRORS = ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
# The absolute paths of artifacts in a SQLite store.
MOVE = """
UPDATE experiments SET artifact_location = :new || substr(artifact_location, :rest)
    WHERE instr(artifact_location, :old) = 1;
UPDATE runs SET artifact_uri = :new || substr(artifact_uri, :rest)
    WHERE instr(artifact_uri, :old) = 1;
UPDATE logged_models SET artifact_location = :new || substr(artifact_location, :rest)
    WHERE instr(artifact_location, :old) = 1;
UPDATE model_versions SET source = :new || substr(source, :rest)
    WHERE instr(source, :old) = 1;
UPDATE model_versions SET storage_location = :new || substr(storage_location, :rest)
    WHERE instr(storage_location, :old) = 1
"""

logger = logging.getLogger(__name__)


class TrackingError(ClickException):
    """Runs cannot be recorded; the message says what to do."""


def read_config(loader: Any) -> dict[str, Any]:
    """Return the contents of mlflow.yml; nothing where a project has none."""
    loader.config_patterns.setdefault("mlflow", ["mlflow*", "mlflow*/**", "**/mlflow*"])
    try:
        config = loader["mlflow"]
    except MissingConfigException:
        return {}
    check_config(config)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuse what mlflow.yml does not know: runs would go where nobody wants them.

    Raises:
        ClickException: Names the key, and what may have been meant.
    """
    for key, value in config.items():
        if key not in SETTINGS:
            near = difflib.get_close_matches(str(key), SETTINGS, 1, 0.5)
            meant = (
                f"did you mean {near[0]}?"
                if near
                else "it knows " + ", ".join(SETTINGS)
            )
            said = (
                " (of the plugin kedro-mlflow)" if key in ("server", "tracking") else ""
            )
            raise ClickException(f"mlflow.yml does not know {key}{said}: {meant}")
        if value is not None and not isinstance(value, SETTINGS[key]):
            wanted = "a number" if key == "lock_timeout" else "a text"
            raise ClickException(
                f"{key} in mlflow.yml is {value!r}: it must be {wanted}"
            )


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
    for name, value in PATIENT.items():
        if not chosen(name):
            export(name, value)
    if not (uri := chosen("MLFLOW_TRACKING_URI")):
        uri = config.get("tracking_uri") or "sqlite:///mlflow.db"
        if path := re.fullmatch(r"sqlite:///([^/].*)", uri):
            uri = f"sqlite:///{(project / path[1]).as_posix()}"
        # Not `mlflow.set_tracking_uri`: its choice could not be told from the caller's.
        export("MLFLOW_TRACKING_URI", uri)
    server = urlsplit(uri)
    if server.scheme in ("http", "https"):
        if server.username:
            # Out of the address, no error of whatever library can show them with it.
            for name in ("username", "password"):
                if not chosen(variable := f"MLFLOW_TRACKING_{name.upper()}"):
                    export(variable, unquote(getattr(server, name) or ""))
            bare = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
            put = os.environ.__setitem__ if chosen("MLFLOW_TRACKING_URI") else export
            put("MLFLOW_TRACKING_URI", bare)
        if not chosen(QUIET):
            export(QUIET, "true")  # `show` says it, without a request


def show(run: Any) -> None:
    """Say where a run is to be seen, if that is a page."""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    if uri.startswith("http"):
        page = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        logger.info("Run %s is recorded at %s", run.info.run_name, mask(page))


@contextmanager
def waiting(settings: dict[str, str], override: bool = False) -> Iterator[None]:
    """Wait for a server as long as these settings say.

    Args:
        settings: Variables of MLflow.
        override: Whether they replace those that the user has set.
    """
    names = [name for name in settings if override or not chosen(name)]
    before = {name: os.environ[name] for name in names}
    put = os.environ.__setitem__ if override else export
    for name in names:
        put(name, settings[name])
    try:
        yield
    finally:
        for name, value in before.items():
            put(name, value)


@contextmanager
def first_contact(project: Path) -> Iterator[None]:
    """Meet the store before anything is computed: one process at a time, in seconds.

    Raises:
        TrackingError: The store cannot be used; one line says what to do.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    file = sqlite_file(uri)
    inside = file if file and file.is_relative_to(project) else None
    try:
        with waiting(FIRST), locked(uri):
            if inside and inside.exists():
                bring_home(inside, project)
            yield
            if inside:
                bring_home(inside, project)
    except ClickException:
        raise
    except Exception as error:
        said = first_line(error)
        if re.search(r"\b40[13]\b|PERMISSION_DENIED|(?i:not authorized)", said):
            remedy = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN, to those of a user who may record there."
            )
        elif inside and "_alembic_tmp_" in said:
            remedy = f"it was left half made: move {inside} away and try again."
        else:
            remedy = (
                "start or repair that store, or set MLFLOW_TRACKING_URI or "
                "conf/base/mlflow.yml to another."
            )
        message = f"MLflow cannot record runs at {mask(uri)}: {said} -- {remedy}"
        raise TrackingError(message) from error


class LastCalls:
    """Calls at the end of a run: each may fail, and all wait about a minute at most.

    Args:
        run_id: The MLflow run, the first argument of every call.
        patience: How long each may wait.
    """

    def __init__(self, run_id: str, patience: dict[str, str]) -> None:
        self.run_id, self.patience = run_id, patience
        self.until = time.monotonic() + 60
        self.missing: list[str] = []

    def attempt(self, what: str, call: Callable, *args: Any, last=False) -> bool:
        """Call MLflow; return whether it worked.

        Args:
            what: What is missing on the run otherwise.
            call: The function, and ``args`` for it.
            last: Whether it is called, in a hurry, when the minute is over.
        """
        late = time.monotonic() > self.until
        try:
            if late and not last:
                raise TimeoutError("no time left")
            with waiting(HURRIED if late else self.patience):
                call(self.run_id, *args)
        except Exception as error:
            self.missing.append(f"{what}: {first_line(error)}")
            return False
        return True

    def say_what_is_missing(self) -> None:
        """Say in the log and in a tag of the run what it lacks."""
        from mlflow import MlflowClient

        if self.missing:
            said = "; ".join(self.missing)
            logger.error("MLflow did not take all of run %s: %s", self.run_id, said)
            tag = ("record.missing", said[:5000])
            self.attempt("what is missing", MlflowClient().set_tag, *tag)


def new_run(experiment: str, tags: dict[str, str]) -> Any:
    """Open a run, and make it the active one.

    The answer may be lost, and asking again would make another run: so it is looked
    for first, by a tag that nobody else has. A busy server may do the first request
    after that; the tag ``creation.again`` says that there may be such a twin.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    export("MLFLOW_EXPERIMENT_ID", experiment)
    unique = uuid.uuid4().hex  # Kedro's run id is a time, which others may share
    new: Any = {"experiment_id": experiment, "tags": tags | {"creation.id": unique}}
    with waiting({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, override=True):
        try:
            return mlflow.start_run(**new)
        except MlflowException:
            same = f"tags.`creation.id` = '{unique}'"
            client = mlflow.MlflowClient()
            for made in client.search_runs([experiment], same):
                try:
                    return mlflow.start_run(run_id=made.info.run_id)
                except Exception as error:  # it is made, but cannot be worked with
                    client.set_terminated(made.info.run_id, "FAILED")
                    raise ClickException(
                        f"MLflow cannot start the run: {first_line(error)}"
                    ) from error
            new["tags"]["creation.again"] = "true"
            return mlflow.start_run(**new)


def remove_strays(run_id: str, died: bool = False) -> None:
    """End what a run has left running: its twins, and candidates of its search.

    Args:
        run_id: The MLflow run.
        died: Whether its process was killed, and all that runs below it.
    """
    from mlflow import MlflowClient

    run = MlflowClient().get_run(run_id)
    twins = f"tags.`creation.id` = '{run.data.tags.get('creation.id', run_id)}'"
    below = f"tags.`mlflow.parentRunId` = '{run_id}'"
    ours = "" if died else " and tags.`creation.id` != ''"
    for which in (twins, below + ours):
        discard(run.info.experiment_id, which, but=run_id)


def discard(experiment: str, which: str, but: str = "") -> None:
    """End runs that are still running; without metrics, they go to MLflow's trash.

    Args:
        experiment: The id of their experiment.
        which: A filter of MLflow's.
        but: The id of the run that stays.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    running = f"{which} and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], running):
        if (run_id := run.info.run_id) == but:
            continue
        client.set_terminated(run_id, "KILLED")
        try:
            if not run.data.metrics:
                client.delete_run(run_id)
        except MlflowException as error:  # this user may not
            logger.info("Run %s stays, as KILLED: %s", run_id, first_line(error))


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


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for other addresses."""
    file = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    return Path(file[1]) if file else None


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Take turns at a database, in which MLflow makes its tables without a lock.

    The lock dies with the process. A database's server has five seconds to answer, to
    which MLflow itself would give two minutes.
    """
    if file := sqlite_file(uri):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(f"{file}.lock", timeout=300, isolation_level=None)
        with closing(lock):
            lock.execute("BEGIN EXCLUSIVE")
            yield
    elif uri.startswith(DATABASES):
        from sqlalchemy import create_engine, pool, text

        limit = {"timeout" if uri.startswith("mssql") else "connect_timeout": 5}
        # Without a pool, closing the connection ends it, and so frees the lock.
        engine = create_engine(uri, poolclass=pool.NullPool, connect_args=limit)
        with engine.connect() as connection:
            connection.execute(text(LOCKS.get(engine.dialect.name, "SELECT 1")))
            yield
    else:
        yield


def bring_home(file: Path, project: Path) -> None:
    """Have a store in the project's folder lead to this folder, wherever it was made.

    MLflow keeps absolute paths. Those below the folder that the store was last used in
    follow it when it was moved or copied; all others were the owner's choice.
    """
    known = "SELECT value FROM experiment_tags WHERE key = 'project.folder'"
    with closing(sqlite3.connect(file, timeout=300)) as db, db:
        made = "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
        if not db.execute(made).fetchone():  # MLflow has yet to make all tables
            return
        folders = {Path(folder) for (folder,) in db.execute(known)}
        if folders == {project}:
            return
        for old in folders - {project}:
            for style in (str, Path.as_uri):
                was, now = f"{style(old)}/", f"{style(project)}/"
                for statement in MOVE.split(";"):
                    db.execute(
                        statement, {"old": was, "new": now, "rest": len(was) + 1}
                    )
            logger.info("The store has moved here from %s: its runs open again.", old)
        db.execute("DELETE FROM experiment_tags WHERE key = 'project.folder'")
        db.execute(
            "INSERT INTO experiment_tags (key, value, experiment_id)"
            " SELECT 'project.folder', ?, experiment_id FROM experiments LIMIT 1",
            [str(project)],
        )


def experiment_id(config: dict[str, Any], project: Path) -> str:
    """Return the id of the experiment that new runs belong to, creating it if needed.

    Raises:
        TrackingError: The experiment was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.exceptions import MlflowException

    client, uri = MlflowClient(), os.environ["MLFLOW_TRACKING_URI"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.get("experiment_name")
    name = name or __name__.partition(".")[0]
    experiment: Experiment | None
    if given := chosen("MLFLOW_EXPERIMENT_ID"):
        experiment = client.get_experiment(given)
    elif not (experiment := client.get_experiment_by_name(name)):
        location = config.get("artifact_location")
        if location and "://" not in location:
            location = str(project / location)  # which an absolute path leaves as it is
        if file := sqlite_file(uri) or (uri.startswith(DATABASES) and project / "any"):
            # MLflow would put artifacts into ./mlruns of whatever directory this is.
            folder = file.absolute().parent / "mlruns" / re.sub(r"[^\w.-]+", "_", name)
            location = location or str(folder)
        try:
            created = client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was faster
            if not (experiment := client.get_experiment_by_name(name)):
                raise
        else:
            experiment = client.get_experiment(created)
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The MLflow experiment '{experiment.name}' was deleted. Restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or name "
            "another in conf/base/mlflow.yml or MLFLOW_EXPERIMENT_NAME."
        )
    place = urlsplit(experiment.artifact_location)
    local = uri.startswith(DATABASES) and place.scheme in ("", "file")
    if local and not config.get("artifact_location"):
        logger.warning(
            "Artifacts of %s go to %s, which only this machine sees: name an "
            "`artifact_location` in conf/base/mlflow.yml, for a new experiment.",
            *(experiment.name, unquote(place.path)),
        )
    return experiment.experiment_id
