"""mlflow.yml: the tracking store and the experiment of a project."""

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
from packaging.utils import canonicalize_name

from . import client, database, environment, names

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
    """Return the content of mlflow.yml; empty if there is none."""
    loader.config_patterns.setdefault("mlflow", ["mlflow*", "mlflow*/**", "**/mlflow*"])
    try:
        config = loader["mlflow"]
    except MissingConfigException:
        return {}
    check_config(config)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuse unknown keys and wrong types in mlflow.yml."""
    for key, value in config.items():
        if key not in SETTINGS:
            near = difflib.get_close_matches(str(key), SETTINGS, 1, 0.5)
            known = f"it knows {', '.join(SETTINGS)}"
            hint = f"did you mean {near[0]}?" if near else known
            plugin = key in ("server", "tracking")
            source = " (of the plugin kedro-mlflow)" if plugin else ""
            raise ClickException(f"mlflow.yml does not know {key}{source}: {hint}")
        if value is not None and not isinstance(value, SETTINGS[key]):
            wanted = "a number" if key == "lock_timeout" else "a text"
            message = f"{key} in mlflow.yml is {value!r}: it must be {wanted}"
            raise ClickException(message)


def configure(config: dict[str, Any], project: Path) -> None:
    """Export the tracking address of mlflow.yml, unless the user has set another.

    Relative paths of SQLite start at the project's folder.
    """
    for name, value in client.RUNNING.items():
        environment.set_default(name, value)
    uri = config.get("tracking_uri") or "sqlite:///mlflow.db"
    if path := re.fullmatch(r"sqlite:///([^/].*)", uri):
        uri = f"sqlite:///{(project / path[1]).as_posix()}"
    # Not `mlflow.set_tracking_uri`: its choice could not be told from the user's.
    environment.set_default("MLFLOW_TRACKING_URI", uri)
    if os.environ["MLFLOW_TRACKING_URI"].startswith("http"):
        move_credentials()
        environment.set_default(QUIET, "true")  # `log_run_url` needs no request


def move_credentials() -> None:
    """Move user and password from the tracking address to variables of their own.

    Then no library can show them with the address in an error.
    """
    server = urlsplit(os.environ["MLFLOW_TRACKING_URI"])
    if not server.username:
        return
    environment.set_default("MLFLOW_TRACKING_USERNAME", unquote(server.username))
    password = unquote(server.password or "")
    environment.set_default("MLFLOW_TRACKING_PASSWORD", password)
    bare = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
    if environment.user_env("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = bare
    else:
        environment.set_env("MLFLOW_TRACKING_URI", bare)


def experiment_id(config: dict[str, Any], project: Path) -> str:
    """Return the id of the experiment that new runs belong to, creating it if needed.

    Raises:
        TrackingError: The experiment was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    mlflow_client, uri = MlflowClient(), os.environ["MLFLOW_TRACKING_URI"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.get("experiment_name")
    name = name or names.project_package()
    if given := environment.user_env("MLFLOW_EXPERIMENT_ID"):
        experiment: Any = mlflow_client.get_experiment(given)
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

    A relative path of mlflow.yml starts at the project's folder.
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
    """Warn if the plugin kedro-mlflow would record the same runs."""
    plugins = (entry.dist for entry in entry_points(group="kedro.hooks"))
    installed = {canonicalize_name(plugin.name) for plugin in plugins if plugin}
    switched_off = set(map(canonicalize_name, settings.DISABLE_HOOKS_FOR_PLUGINS))
    if "kedro-mlflow" in installed - switched_off:
        logger.warning(
            "The plugin kedro-mlflow is installed: it records the same runs and reads "
            "the same mlflow.yml. Switch it off in settings.py: "
            'DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")'
        )
