"""Requests to the tracking server: time-outs, retries, and clear errors."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click import ClickException

from . import database, environment, names, redact

ANSWER_SECONDS = 10  # a busy server should answer within them
# What a server says to missing or wrong credentials.
REFUSED = r"\b40[13]\b|PERMISSION_DENIED|UNAUTHENTICATED|(?i:not authorized)"


def http_policy(retries: int, timeout: int) -> dict[str, str]:
    """Return MLflow's variables for retries, and for the time-out in seconds."""
    return {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
    }


# MLflow doubles its waits. One retry: at once; four: half a minute; five: a minute.
CONNECT = http_policy(retries=1, timeout=ANSWER_SECONDS)  # before the first node
RUNNING = http_policy(retries=5, timeout=20)  # while nodes run
FINISH = http_policy(retries=4, timeout=8)  # at the end of a run
EXIT = http_policy(retries=1, timeout=5)  # when the process was interrupted

logger = logging.getLogger(__name__)


class TrackingError(ClickException):
    """Runs cannot be recorded; the message says what to do."""


@contextmanager
def http_timeouts(settings: dict[str, str], override: bool = False) -> Iterator[None]:
    """Set variables of MLflow within a block; the user's only with ``override``."""
    names = [name for name in settings if override or not environment.user_env(name)]
    before = {name: os.environ[name] for name in names}
    os.environ.update({name: settings[name] for name in names})
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def verify_store(project: Path) -> Iterator[None]:
    """Connect to the store before anything is computed; fail within seconds.

    Processes that share a database take turns.

    Raises:
        TrackingError: The store cannot be used; one line says what to do.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    file = database.sqlite_file(uri)
    inside = file if file and file.is_relative_to(project) else None
    try:
        with http_timeouts(CONNECT), database.database_lock(uri):
            if inside and inside.exists():
                database.relocate_artifacts(inside, project)
            yield
            if inside:
                database.relocate_artifacts(inside, project)
    except ClickException:
        raise
    except Exception as error:
        said = redact.first_line(error)
        if re.search(REFUSED, said):
            remedy = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN, to those of a user who may record there."
            )
        elif inside and "_alembic_tmp_" in said:
            remedy = f"it was only half created: move {inside} away and try again."
        else:
            remedy = (
                "start or repair that store, or set MLFLOW_TRACKING_URI or "
                "conf/base/mlflow.yml to another."
            )
        message = f"MLflow cannot record runs at {redact.mask(uri)}: {said} -- {remedy}"
        raise TrackingError(message) from error


@contextmanager
def ignore_errors(*codes: str) -> Iterator[None]:
    """Leave a block quietly if MLflow's error has one of these codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


class BestEffortCalls:
    """Calls that may fail without an end to the run; they stop after about a minute.

    The id of the run is their first argument; the policy says how long each may wait.
    """

    def __init__(self, run_id: str, policy: dict[str, str]) -> None:
        self.run_id, self.policy = run_id, policy
        self.until = time.monotonic() + 60
        self.missing: list[str] = []

    def attempt(self, what: str, call: Callable, *args: Any, last=False) -> bool:
        """Call MLflow; return whether it worked, and note what is missing otherwise.

        When the minute is over, only the ``last`` calls are made, in a hurry.
        """
        late = time.monotonic() > self.until
        try:
            if late and not last:
                raise TimeoutError("no time left")
            with http_timeouts(EXIT if late else self.policy):
                call(self.run_id, *args)
        except Exception as error:
            self.missing.append(f"{what}: {redact.first_line(error)}")
            return False
        return True

    def report_failures(self) -> None:
        """List in the log, and in a tag of the run, what could not be logged."""
        if self.missing:
            said = "; ".join(self.missing)
            logger.error("Run %s lacks %s", self.run_id, said)
            self.attempt("what is missing", add_missing, said)


def add_missing(run_id: str, said: str) -> None:
    """Add to the tag of a run that lists what could not be logged."""
    from mlflow import MlflowClient

    before = MlflowClient().get_run(run_id).data.tags.get(names.MISSING_TAG)
    text = f"{before}; {said}" if before else said
    MlflowClient().set_tag(run_id, names.MISSING_TAG, text[: names.MAX_TAG])


def log_run_url(run: Any) -> None:
    """Log the address of the run's page, if the store is a server."""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    if uri.startswith("http"):
        page = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        logger.info("Run %s is recorded at %s", run.info.run_name, redact.mask(page))
