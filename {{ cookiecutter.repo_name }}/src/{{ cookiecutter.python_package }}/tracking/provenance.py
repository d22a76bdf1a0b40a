"""What made a run: parameters, tags, and artifacts that reproduce it."""

from __future__ import annotations

import json
import logging
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import settings

from . import catalog_files, code, datasets, names, parameters, redact
from .catalog_files import DataFile

OPTIONS_FILE, FOLDER = "run.json", "environment"  # among a run's artifacts
REPLAY_TAG = "replay.of"  # names the run that is repeated
VARIATION_TAG, CHANGES_TAG = "variation.of", "variation.by"  # repeated, with changes
RUNNER_TAG, CONF_TAG = "kedro.runner_params", "kedro.conf_source"
NOT_RECORDED = "not recorded: only `kedro run` tells them"
FILTERS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")

logger = logging.getLogger(__name__)


def run_tags(
    run_params: dict[str, Any], pipeline: Any, project: Path, env: str
) -> dict[str, str]:
    """Return the tags that say what made a run."""
    runner = re.search(r"(\w+) object at", str(run_params["runner"]))
    tags = {
        "kedro.run_id": run_params["run_id"],
        "kedro.session_id": run_params.get("session_id") or run_params["run_id"],
        "kedro.version": run_params["kedro_version"],
        "kedro.env": env,
        "kedro.pipeline": ",".join(run_params["pipeline_names"] or ["__default__"]),
        "kedro.runner": runner[1] if runner else "SequentialRunner",
        "python.executable": sys.executable,
        "python.version": platform.python_version(),
    }
    for name in FILTERS:
        if chosen := run_params[name]:
            tags[f"kedro.{name}"] = ",".join(chosen)
    namespaces = {node.namespace for node in pipeline.nodes if node.namespace}
    if namespaces:
        tags["kedro.namespaces"] = ",".join(sorted(namespaces))
    return tags | code.git_state(project)


def without_skipped(
    run_params: dict[str, Any], pipeline: Any, planned: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Name the nodes that run if ``--only-missing-outputs`` skips some of them.

    Args:
        run_params: The options of the run, as Kedro hands them to hooks.
        pipeline: The nodes that were asked for.
        planned: Those that run.

    Returns:
        The options with the names of the nodes, and a tag with those of the others.
    """
    running = [node.name for node in planned.nodes]
    skipped = {node.name for node in pipeline.nodes} - set(running)
    if not skipped:
        return run_params, {}
    tag = {"kedro.skipped_nodes": ",".join(sorted(skipped))}
    return {**run_params, "node_names": running}, tag


def reproduction(
    run_params: dict[str, Any],
    env: str,
    inputs: Mapping[str, DataFile | None],
    project: Path,
    tags: Mapping[str, str],
    conf_source: str = "",
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return tags and artifacts by which a run can be reproduced.

    Args:
        run_params: The options of the run, as Kedro hands them to hooks.
        env: The environment of ``conf/``.
        inputs: The files that it reads, by dataset.
        project: The project's folder.
        tags: Known tags of the run: whether files differ from the commit.
        conf_source: Where its configuration is.
    """
    options = run_options(run_params, env, inputs)
    options |= runner_options() | conf_options(conf_source, project)
    writers = datasets.find_writers(inputs)
    found = {"kedro.command": command_line(options)[:5000]}
    found |= unrecorded_options(options)
    for name, run_id in writers.items():
        found[names.data_tag(name, "run_id")] = run_id
    for name, version in catalog_files.loaded_versions(inputs).items():
        found[names.data_tag(name, "version")] = version
    artifacts = {
        OPTIONS_FILE: options_file(options, inputs, writers, project),
        code.PACKAGES_FILE: code.installed_packages(project).encode(),
    }
    if tags.get("git.dirty") == "true":
        diff, found["git.diff"] = code.uncommitted_changes(project)
        artifacts[code.DIFF_FILE] = diff
    return found, artifacts


def options_file(
    options: dict[str, Any],
    inputs: Mapping[str, DataFile | None],
    writers: Mapping[str, str],
    project: Path,
) -> bytes:
    """Return the options, inputs and writers of a run as JSON, by relative paths."""
    files = {name: file for name, file in inputs.items() if file}
    here = f"{project.as_posix()}/"
    paths = {n: f.path.as_posix().removeprefix(here) for n, f in files.items()}
    content: dict[str, Any] = {"run": options}
    content["inputs"] = {paths[name]: file.digest for name, file in files.items()}
    conf = options.get("conf_source", "")
    if conf and (project / conf).is_file():  # an archive
        content["inputs"][conf] = datasets.file_digest(project / conf)
    if writers:
        content["made_by"] = {paths[name]: run for name, run in writers.items()}
    return json.dumps(content, indent=2).encode()


def run_options(
    run_params: dict[str, Any],
    env: str,
    files: Mapping[str, DataFile | None],
) -> dict[str, Any]:
    """Return the options of a run in the format of ``kedro run --config``.

    Versioned inputs have the version that is loaded now; secrets are hidden.
    """
    loaded = catalog_files.loaded_versions(files) | (
        run_params.get("load_versions") or {}
    )
    runner = re.search(r"<(?:kedro\.[\w.]+\.)?([\w.]+) ", str(run_params["runner"]))
    given = json.dumps(run_params["runtime_params"] or {}, default=str)
    lists = {name: run_params.get(name) for name in (*FILTERS, "namespaces")}
    lists["pipelines"] = run_params["pipeline_names"]
    lists["load_versions"] = [":".join(item) for item in loaded.items()]
    found = {
        "env": env,
        "runner": runner[1] if runner else "",
        **{name: ",".join(chosen or []) for name, chosen in lists.items()},
        "params": redact.mask_values(json.loads(given)),
    }
    return {name: value for name, value in found.items() if value}


def runner_options() -> dict[str, Any]:
    """Return the arguments of the runner: what was typed, for no hook gets them."""
    context = click.get_current_context(silent=True)
    typed = context.params if context and "runner_params" in context.params else {}
    found = dict(typed.get("runner_params") or {})
    if typed.get("is_async"):
        found["is_async"] = True
    return {"runner_params": redact.mask_values(found)} if found else {}


def conf_options(conf_source: str, project: Path) -> dict[str, str]:
    """Return where the configuration is, unless it is where projects have it."""
    if not conf_source or Path(conf_source) == project / settings.CONF_SOURCE:
        return {}
    here = f"{project.as_posix()}/"
    return {"conf_source": redact.mask(conf_source.removeprefix(here))}


def unrecorded_options(options: dict[str, Any]) -> dict[str, str]:
    """Return tags about the configuration, and arguments that are not known."""
    context = click.get_current_context(silent=True)
    typed = context is not None and "runner_params" in context.params
    tags = {CONF_TAG: options["conf_source"]} if "conf_source" in options else {}
    # A sequential runner has no argument that an outcome depends on.
    default = "runner" not in options or options["runner"].endswith("SequentialRunner")
    return tags if typed or default else tags | {RUNNER_TAG: NOT_RECORDED}


def command_line(given: dict[str, Any]) -> str:
    """Return the command line for these options."""
    words = []
    for name, value in given.items():
        if name in ("params", "runner_params"):
            value = ",".join(
                f"{k}={text}" for k, text in parameters.flatten(value).items()
            )
        option = f"--{name.replace('node_names', 'nodes').replace('_', '-')}"
        words.append(option if value is True else f"{option}={value}")
    return shlex.join(["kedro", "run", *words])


def log_all(
    run: Any,
    tags: dict[str, str],
    params: dict[str, str],
    artifacts: dict[str, bytes],
) -> None:
    """Log parameters, tags and artifacts on an MLflow run.

    A parameter that is on the run with another value already, because the caller
    logged it, is logged under its name and Kedro's run id.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    client, run_id = MlflowClient(), run.info.run_id
    for name, text in run.data.params.items():
        if name in params:
            ours = params.pop(name)
            if parameters.parse_value(ours) != parameters.parse_value(text):
                other = f"{name[:200]}.{tags['kedro.run_id']}"
                logger.warning(
                    "Parameter %s is on the MLflow run as %s; the pipeline's value "
                    "%s is logged as %s.", name, text, ours, other,
                )  # fmt: skip
                params[other] = ours
    client.log_batch(
        run_id,
        params=[Param(*item) for item in params.items()],
        tags=[RunTag(*item) for item in (tags.items() - run.data.tags.items())],
        synchronous=True,  # a thread that logs would not survive a fork
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifacts.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder, FOLDER)


def replay_tags(varied: bool = False) -> dict[str, str]:
    """Return the tags of the active run, if it repeats another.

    Args:
        varied: Also if it repeats it with changes.
    """
    import mlflow

    run, wanted = (
        mlflow.active_run(),
        {REPLAY_TAG} | ({VARIATION_TAG} if varied else set()),
    )
    return run.data.tags if run and wanted & run.data.tags.keys() else {}
