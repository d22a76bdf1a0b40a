"""mlflow.yml: the tracking store and the experiment of a project."""

from __future__ import annotations

import difflib
import logging
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from click import ClickException
from kedro.config import MissingConfigException
from kedro.framework.project import settings

from . import client, database, environment

# The keys of mlflow.yml, and their types.
SETTINGS: dict[str, Any] = {
    "tracking_uri": str,
    "experiment_name": str,
    "artifact_location": str,
    "lock_timeout": (int, float),
}
QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"

logger = logging.getLogger(__name__)


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


def configure(config: dict[str, Any], project: Path) -> None:
    """Export the tracking address of mlflow.yml, unless the caller has set another.

    Args:
        config: The contents of mlflow.yml.
        project: The project's folder, where relative SQLite paths start.
    """
    for name, value in client.RUNNING.items():
        if not environment.user_env(name):
            environment.set_env(name, value)
    if not (uri := environment.user_env("MLFLOW_TRACKING_URI")):
        uri = config.get("tracking_uri") or "sqlite:///mlflow.db"
        if path := re.fullmatch(r"sqlite:///([^/].*)", uri):
            uri = f"sqlite:///{(project / path[1]).as_posix()}"
        # Not `mlflow.set_tracking_uri`: its choice could not be told from the caller's.
        environment.set_env("MLFLOW_TRACKING_URI", uri)
    server = urlsplit(uri)
    if server.scheme in ("http", "https"):
        if server.username:
            # Out of the address, no error of whatever library can show them with it.
            for name in ("username", "password"):
                if not environment.user_env(
                    variable := f"MLFLOW_TRACKING_{name.upper()}"
                ):
                    environment.set_env(variable, unquote(getattr(server, name) or ""))
            bare = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
            put = (
                os.environ.__setitem__
                if environment.user_env("MLFLOW_TRACKING_URI")
                else environment.set_env
            )
            put("MLFLOW_TRACKING_URI", bare)
        if not environment.user_env(QUIET):
            environment.set_env(QUIET, "true")  # `show` says it, without a request


def experiment_id(config: dict[str, Any], project: Path) -> str:
    """Return the id of the experiment that new runs belong to, creating it if needed.

    Raises:
        TrackingError: The experiment was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.exceptions import MlflowException

    mlflow_client, uri = MlflowClient(), os.environ["MLFLOW_TRACKING_URI"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.get("experiment_name")
    name = name or __name__.partition(".")[0]
    experiment: Experiment | None
    if given := environment.user_env("MLFLOW_EXPERIMENT_ID"):
        experiment = mlflow_client.get_experiment(given)
    elif not (experiment := mlflow_client.get_experiment_by_name(name)):
        location = artifact_location(name, config.get("artifact_location"), project)
        try:
            created = mlflow_client.create_experiment(name, artifact_location=location)
            experiment = mlflow_client.get_experiment(created)
        except MlflowException:  # another process was faster
            if not (experiment := mlflow_client.get_experiment_by_name(name)):
                raise
    if experiment.lifecycle_stage == "deleted":
        raise client.TrackingError(
            f"The MLflow experiment '{experiment.name}' was deleted. Restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or name "
            "another in conf/base/mlflow.yml or MLFLOW_EXPERIMENT_NAME."
        )
    place = urlsplit(experiment.artifact_location)
    local = uri.startswith(database.DATABASES) and place.scheme in ("", "file")
    if local and not config.get("artifact_location"):
        logger.warning(
            "Artifacts of %s go to %s, which only this machine sees: name an "
            "`artifact_location` in conf/base/mlflow.yml, for a new experiment.",
            *(experiment.name, unquote(place.path)),
        )
    return experiment.experiment_id


def artifact_location(name: str, configured: str | None, project: Path) -> str | None:
    """Return where a new experiment keeps its artifacts; None leaves it to the server.

    Args:
        name: The name of the experiment.
        configured: What mlflow.yml says; a relative path starts at the project.
        project: The project's folder.
    """
    if configured:
        return configured if "://" in configured else str(project / configured)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if file := database.sqlite_file(uri):
        parent = file.absolute().parent
    elif uri.startswith(database.DATABASES):
        parent = project
    else:
        return None
    # MLflow would put artifacts into ./mlruns of whatever directory this is.
    return str(parent / "mlruns" / re.sub(r"[^\w.-]+", "_", name))


def warn_of_kedro_mlflow() -> None:
    """Say that a plugin records the same runs, and reads the same mlflow.yml."""
    installed = {
        entry.dist.name for entry in entry_points(group="kedro.hooks") if entry.dist
    }
    switched_off = {
        name.replace("_", "-") for name in settings.DISABLE_HOOKS_FOR_PLUGINS
    }
    if "kedro-mlflow" in installed - switched_off:
        logger.warning(
            "The plugin kedro-mlflow is installed: it records the same runs and reads "
            "the same mlflow.yml. Switch it off in settings.py: "
            'DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")'
        )
