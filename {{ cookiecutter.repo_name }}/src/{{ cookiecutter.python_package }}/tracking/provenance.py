"""What made a run: parameters, tags, and artifacts that reproduce it."""

import json
import logging
import os
import platform
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import settings

from . import catalog_files, code, datasets, names, parameters, redact
from .catalog_files import DataFiles

OPTIONS_FILE, FOLDER = "run.json", "environment"  # among a run's artifacts
REPLAY_TAG = "replay.of"  # names the run that is repeated
VARIATION_TAG, CHANGES_TAG = "variation.of", "variation.by"  # repeated, with changes
RUNNER_TAG, CONF_TAG = "kedro.runner_params", "kedro.conf_source"
NOT_RECORDED = "not recorded: only `kedro run` tells them"
FILTERS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")

logger = logging.getLogger(__name__)


def run_tags(run_params: dict[str, Any], pipeline: Any) -> dict[str, str]:
    """Return the tags that say what made a run of the nodes of a pipeline.

    The options are those that Kedro hands to hooks, with ``env`` and ``conf_source`` as
    they apply, and ``skipped_nodes`` if there are some.
    """
    runner = re.search(r"(\w+) object at", str(run_params["runner"]))
    tags = {
        "kedro.run_id": run_params["run_id"],
        "kedro.session_id": run_params.get("session_id") or run_params["run_id"],
        "kedro.version": run_params["kedro_version"],
        "kedro.env": run_params["env"],
        "kedro.pipeline": ",".join(run_params["pipeline_names"] or ["__default__"]),
        "kedro.runner": runner[1] if runner else "SequentialRunner",
        "python.executable": sys.executable,
        "python.version": platform.python_version(),
    }
    chosen = {name: run_params.get(name) for name in (*FILTERS, "skipped_nodes")}
    chosen["namespaces"] = sorted({n.namespace for n in pipeline.nodes if n.namespace})
    tags |= {
        f"kedro.{name}": ",".join(given) for name, given in chosen.items() if given
    }
    return tags | code.git_state(Path(run_params["project_path"]))


def reproduction(
    run_params: dict[str, Any], inputs: DataFiles, *, dirty: bool
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return tags and artifacts by which a run can be reproduced.

    The options are those of ``run_tags``; ``dirty`` if files differ from the commit.
    """
    project = Path(run_params["project_path"])
    options = run_options(run_params, inputs)
    writers = datasets.find_writers(inputs)
    found = {"kedro.command": command_line(options)[: names.MAX_TAG]}
    if "conf_source" in options:
        found[CONF_TAG] = options["conf_source"]
    # A sequential runner has no argument that an outcome depends on.
    sequential = options.get("runner", "SequentialRunner").endswith("SequentialRunner")
    if typed_options() is None and not sequential:
        found[RUNNER_TAG] = NOT_RECORDED
    for name, run_id in writers.items():
        found[names.data_tag(name, "run_id")] = run_id
    for name, version in catalog_files.loaded_versions(inputs).items():
        found[names.data_tag(name, "version")] = version
    artifacts = {
        OPTIONS_FILE: options_file(options, inputs, writers, project),
        code.PACKAGES_FILE: code.installed_packages(project).encode(),
    }
    if dirty:
        artifacts[code.DIFF_FILE], found["git.diff"] = code.uncommitted_changes(project)
    return found, artifacts


def options_file(
    options: dict[str, Any], inputs: DataFiles, writers: dict[str, str], project: Path
) -> bytes:
    """Return the options, inputs and writers of a run as JSON, by relative paths."""
    files = {name: file for name, file in inputs.items() if file}
    paths = {name: relative(str(file.path), project) for name, file in files.items()}
    content: dict[str, Any] = {"run": options}
    content["inputs"] = {paths[name]: file.digest for name, file in files.items()}
    conf = options.get("conf_source", "")
    if conf and (project / conf).is_file():  # an archive
        content["inputs"][conf] = datasets.file_digest(project / conf)
    if writers:
        content["made_by"] = {paths[name]: run for name, run in writers.items()}
    return json.dumps(content, indent=2).encode()


def relative(path: str, project: Path) -> str:
    """Return a path or address as it is seen from the project's folder."""
    return path.replace(os.sep, "/").removeprefix(f"{project.as_posix()}/")


def run_options(run_params: dict[str, Any], inputs: DataFiles) -> dict[str, Any]:
    """Return the options of a run in the format of ``kedro run --config``.

    Versioned inputs have the version that is loaded now; secrets are hidden. No hook is
    told the arguments of the runner: they are those that were typed.
    """
    versions = catalog_files.loaded_versions(inputs)
    versions |= run_params.get("load_versions") or {}
    runner = re.search(r"<(?:kedro\.[\w.]+\.)?([\w.]+) ", str(run_params["runner"]))
    given = json.dumps(run_params["runtime_params"] or {}, default=str)
    lists = {name: run_params.get(name) for name in (*FILTERS, "namespaces")}
    lists["pipelines"] = run_params["pipeline_names"]
    lists["load_versions"] = [":".join(item) for item in versions.items()]
    typed = typed_options() or {}
    runner_params = dict(typed.get("runner_params") or {})
    if typed.get("is_async"):
        runner_params["is_async"] = True
    project, conf_source = Path(run_params["project_path"]), run_params["conf_source"]
    usual = Path(conf_source) == project / settings.CONF_SOURCE
    found = {
        "env": run_params["env"],
        "runner": runner[1] if runner else "",
        **{name: ",".join(chosen or []) for name, chosen in lists.items()},
        "params": redact.mask_values(json.loads(given)),
        "runner_params": redact.mask_values(runner_params),
        "conf_source": "" if usual else redact.mask(relative(conf_source, project)),
    }
    return {name: value for name, value in found.items() if value}


def typed_options() -> dict[str, Any] | None:
    """Return what was typed for ``kedro run``; None if something else runs."""
    context = click.get_current_context(silent=True)
    return context.params if context and "runner_params" in context.params else None


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
    run: Any, tags: dict[str, str], params: dict[str, str], artifacts: dict[str, bytes]
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
                other = f"{name[: names.MAX_PART]}.{tags['kedro.run_id']}"
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
    """Return the tags of the active run, if it repeats another; maybe with changes."""
    import mlflow

    wanted = {REPLAY_TAG, VARIATION_TAG} if varied else {REPLAY_TAG}
    run = mlflow.active_run()
    return run.data.tags if run and wanted & run.data.tags.keys() else {}
