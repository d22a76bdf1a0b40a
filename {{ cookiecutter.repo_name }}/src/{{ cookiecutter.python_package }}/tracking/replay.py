"""``kedro replay``: a run once more, from its own code; and is it equal?"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click import ClickException

from . import origin, provenance, store
from .hooks import exit_on_sigterm
from .runs import (
    ORIGIN,
    artifact,
    differences,
    env_option,
    facts,
    find,
    parse_packages,
    printable,
    project_store,
    table,
)

COMMIT = "mlflow.source.git.commit"
TEXTS = {"pipelines", "namespaces", "load_versions", "runner", *origin.FILTERS}
RUNNERS = (None, "ThreadRunner", "ParallelRunner")
# Files beside a model that say where and when, or what it needs.
NO_MODEL = {
    *("MLmodel", "registered_model_meta"),
    *("conda.yaml", "python_env.yaml", "requirements.txt"),
}


@click.command()
@click.argument("run_id")
@click.option("--dry-run", is_flag=True, help="Only say what differs here.")
@click.option(
    "--env-manager",
    type=click.Choice(["local", "uv"]),
    default="local",
    show_default=True,
    help="Use this environment, or one of exactly the recorded packages.",
)
@click.option("--trust", is_flag=True, help="Run changes and parameters from a file.")
@env_option
@click.pass_obj
def replay(metadata: Any, run_id: str, dry_run, env_manager, trust, env) -> None:
    """Run once more what a run has recorded, and compare.

    The same pipeline with the same parameters, environment and filters runs in a
    temporary folder, from the recorded commit and the changes to it. Nothing here is
    touched; no model is registered.

    Exit status: 0 if all metrics and models are equal, 1 if not, 2 in trouble.
    """
    project = Path(metadata.project_path)
    with project_store(project, env) as experiment:
        old = find(run_id, experiment)
        given = recorded_options(old, trust, fresh=env_manager == "uv")
        signal.signal(signal.SIGTERM, exit_on_sigterm)  # so that nothing is left behind
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
            recorded_code(old, project, Path(name)) as copy,
        ):
            here, wrong = bring_data(old, given, project, copy)
            here |= facts_here(project)
            then = {name: found for name, found in facts(old).items() if name in here}
            if found := list(differences(then, here)):
                click.echo(table([("", "", "then", "here"), *found]))
            else:
                click.echo("Here everything is as it was then.")
            if wrong:
                raise ClickException(wrong)
            if dry_run:
                click.echo(f"To be repeated: {printable(origin.command(given))}")
                return
            python = sys.executable
            if env_manager == "uv":
                python = recorded_environment(old, Path(name))
            new = run_again(old, given, copy, python)
        rows = [("", old.info.run_id[:8], new.info.run_id[:8]), *outcome(old, new)]
    click.echo(table(rows))
    equal = all(one == other for _, one, other in rows[1:])
    click.echo("equal" if equal else "different")
    raise SystemExit(not equal)


def recorded_options(run: Any, trust: bool, fresh: bool) -> dict[str, Any]:
    """Return the options of ``kedro run`` that repeat a run.

    Args:
        run: The recorded run.
        trust: Whether a received run may bring what is code.
        fresh: Whether its packages are installed.

    Raises:
        ClickException: They are not recorded, or not to be trusted.
    """
    run_id, tags = run.info.run_id, run.data.tags
    if "kedro.run_id" not in tags:
        raise ClickException(f"Run {run_id} was not made by `kedro run`.")
    if "kedro.command" not in tags or not (text := artifact(run, origin.COMMAND)):
        raise ClickException(
            f"Run {run_id} is of an older version of this project, which did not note "
            f"how to repeat it: start pipeline {tags.get('kedro.pipeline')} by hand."
        )
    try:
        given = dict(json.loads(text)["run"])
        env = str(given["env"])
    except (ValueError, TypeError, KeyError) as error:
        raise ClickException(f"{origin.COMMAND} of run {run_id} is damaged.") from error
    for name, value in given.items():
        known = name in TEXTS | {"env"} and isinstance(value, str)
        known |= name == "params" and isinstance(value, dict)
        if not known and (name, value) != ("only_missing_outputs", True):
            raise ClickException(f"Run {run_id} asks for the unknown option {name}.")
    for name, value in origin.leaves(given.get("params", {})):
        if value == origin.HIDDEN:
            raise ClickException(f"Parameter {name} of run {run_id} was not recorded.")
    if ORIGIN in tags and not trust:
        brought = [name for name in ("params",) if name in given]
        brought += ["changes to the code"] if tags.get("git.dirty") == "true" else []
        brought += ["a runner"] if given.get("runner") not in RUNNERS else []
        brought += ["a path"] if not re.fullmatch(r"[\w-]+", env) else []
        brought += ["packages"] if fresh else []
        if brought:
            raise ClickException(
                f"Run {run_id} was received and brings {' and '.join(brought)}: look "
                f"at its artifacts in {origin.FOLDER}, then use --trust."
            )
    return given


@contextmanager
def recorded_code(run: Any, project: Path, folder: Path) -> Iterator[Path]:
    """Lay out the code of a run in a folder, and clear it away at the end.

    Yields:
        The project's folder within; the present code, if the run was made outside git.

    Raises:
        ClickException: The commit, or what differed from it, is not to be had.
    """
    tags, copy = run.data.tags, folder / "code"
    if not (commit := tags.get(COMMIT)):
        click.echo("The run was made outside git: the code that is here now is used.")
        shutil.copytree(project, copy, ignore=ignored)
        yield copy
        return
    wanted = commit + "^{commit}"
    words = ("rev-parse", "--verify", "--quiet", wanted)
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or not origin.git(project, *words):
        url = tags.get("mlflow.source.git.repoURL", "the remote")
        branch = tags.get("mlflow.source.git.branch", "its branch")
        raise ClickException(
            f"Commit {commit[:12]} is not in this repository: fetch it from {url}, "
            f"where it was on {branch}."
        )
    prefix = os.fsdecode(origin.git(project, "rev-parse", "--show-prefix").strip())
    quiet = ("-c", f"core.hooksPath={os.devnull}")
    origin.git(project, *quiet, "worktree", "add", "--detach", str(copy), commit)
    try:
        if not (copy / ".git").exists():
            raise ClickException(f"git cannot lay out commit {commit[:12]} in {copy}.")
        if tags.get("git.dirty") == "true":
            apply_changes(run, copy)
        for name in (project / "conf").rglob("*"):  # credentials, conf/local
            target = copy / prefix / name.relative_to(project)
            if name.is_file() and not target.exists():
                link(name, target)
        yield copy / prefix
    finally:
        origin.git(project, "worktree", "remove", "--force", str(copy))


def ignored(folder: str, names: list[str]) -> set[str]:
    """Return what is not copied: data, stores, environments, hidden files."""
    if not Path(folder, "pyproject.toml").exists():
        return {"__pycache__"}
    kept = re.compile(r"(?!\.|data$|mlruns$|mlartifacts$).*(?<!\.db)(?<!\.db\.lock)")
    left = {name for name in names if not kept.fullmatch(name)}
    return left | {name for name in names if Path(folder, name, "pyvenv.cfg").exists()}


def apply_changes(run: Any, copy: Path) -> None:
    """Apply to a commit what differed from it.

    Raises:
        ClickException: It is not recorded as it was.
    """
    text = artifact(run, origin.DIFF) or ""
    found = text.encode("utf-8", "surrogateescape")
    digest, noted = hashlib.md5(found, usedforsecurity=False).hexdigest(), ""
    if digest != (noted := run.data.tags.get("git.diff", "not recorded")):
        raise ClickException(
            f"What differed from the commit is missing from run {run.info.run_id}: "
            f"{noted if ' ' in noted else 'its artifact is not what was recorded'}."
        )
    if found:
        command = ["git", "-C", str(copy), "apply", "--whitespace=nowarn", "-"]
        done = subprocess.run(command, input=found, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").partition("\n")[0]
            raise ClickException(f"What differed from the commit: {said}")


def link(source: Path, target: Path) -> None:
    """Have a file of the project in the copy too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source, source.is_dir())
    except OSError:  # where links are a privilege
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def bring_data(
    run: Any, given: dict[str, Any], project: Path, copy: Path
) -> tuple[dict[str, dict[str, str]], str]:
    """Bring the inputs of a run into the copy, and compare their digests.

    Args:
        run: The recorded run.
        given: Its options.
        project: Where data are that git does not keep.
        copy: Where the run is repeated.

    Returns:
        The digests of the files here, as ``facts`` has them; and what is wrong.
    """
    from kedro.framework.project import settings
    from kedro.io import CatalogConfigResolver

    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(copy / settings.CONF_SOURCE),
        env=given["env"],
        runtime_params=given.get("params"),
        **settings.CONFIG_LOADER_ARGS,
    )
    unnamed = {"{default}": {"type": "kedro.io.MemoryDataset"}}
    resolver = CatalogConfigResolver(
        loader["catalog"], default_runtime_patterns=unnamed
    )
    versions = dict(
        item.split(":", 1) for item in given.get("load_versions", "").split(",") if item
    )
    used = (entry.dataset for entry in run.inputs.dataset_inputs)
    then = {dataset.name: dataset.digest for dataset in used}
    unread = (re.fullmatch(r"data\.(.+)\.digest", name) for name in run.data.tags)
    here, wrong = dict(then), ""
    for name in [*then, *(found[1] for found in unread if found)]:
        entry = resolver.resolve_pattern(name)
        place = str(entry.get("filepath") or entry.get("path") or "")
        if not place or "://" in place.removeprefix("file://"):
            continue  # compared by its table, when it is loaded
        path = Path(place.removeprefix("file://"))
        if name in versions:
            path = path / versions[name] / path.name
        ours, theirs = project / path, copy / path
        if ours.exists() and not theirs.exists():
            link(ours, theirs)
        if name in then:
            here[name] = provenance.digest(ours) if ours.is_file() else "-"
            if not theirs.is_file():
                wrong = f"The input {name} of the run is not here: {path}."
            elif (now := provenance.digest(theirs)) != then[name]:
                wrong = f"{path} has the MD5 {now}, not {then[name]}"
                wrong = f"The input {name} is another now: {wrong}."
    if model := run.data.tags.get("model.id"):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            MlflowClient().get_logged_model(model)
        except MlflowException:
            wrong = f"The model that the run has used is not here: models:/{model}."
    return {"data": here}, wrong


def facts_here(project: Path) -> dict[str, dict[str, str]]:
    """Return what this machine would make a run from, as ``facts`` has it."""
    state = origin.git_state(project)
    diff = origin.diff(project)[1] if state.get("git.dirty") == "true" else "none"
    version = {"python": ".".join(map(str, sys.version_info[:3]))}
    return {
        "packages": parse_packages(origin.packages(project)) | version,
        "code": {"commit": state.get(COMMIT, "?"), "diff": diff if state else "?"},
    }


def recorded_environment(run: Any, folder: Path) -> str:
    """Make an environment of exactly the recorded packages; return its interpreter.

    Raises:
        ClickException: There is no uv, or something cannot be had.
    """
    if not (uv := shutil.which("uv")):
        raise ClickException("--env-manager=uv needs uv: `pip install uv`.")
    text, tags = artifact(run, origin.PACKAGES) or "", run.data.tags
    if lost := re.findall(r"^# (.+ came from .*)$", text, re.MULTILINE):
        raise ClickException(f"The packages cannot be had again: {lost[0]}.")
    wanted, env = folder / origin.PACKAGES, folder / "environment"
    wanted.write_text(text, "utf-8")
    python = env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for what, words in (
        ("Python", ["venv", "--python", tags["python.version"], str(env)]),
        ("A package", ["pip", "sync", "--python", str(python), str(wanted)]),
    ):
        done = subprocess.run([uv, *words], capture_output=True, text=True)
        if done.returncode:
            said = " ".join(re.sub(r"[^\x20-\x7e]", " ", done.stderr).split())
            raise ClickException(f"{what} cannot be had: {store.mask(said)[-400:]}")
    return str(python)


def run_again(run: Any, given: dict[str, Any], copy: Path, python: str) -> Any:
    """Run the pipeline in the copy, and return the new run.

    Raises:
        ClickException: No run was opened.
    """
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    token = uuid.uuid4().hex
    file = Path(tempfile.gettempdir(), f"replay-{token}.json")
    told = {origin.REPLAY: run.info.run_id, "replay.id": token}
    used = ("model.uri", "model.id")
    told |= {name: run.data.tags[name] for name in used if name in run.data.tags}
    ours = [name.removeprefix("KEDRO_") for name in os.environ]
    left = {n for n in ours if n.startswith("MLFLOW_") and not store.chosen(n)}
    left |= {f"KEDRO_{name}" for name in left} | {"MLFLOW_RUN_ID", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name not in left}
    env |= {
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "MLFLOW_EXPERIMENT_ID": run.info.experiment_id,
        "MLFLOW_RUN_CONTEXT": json.dumps(told),
    }
    try:
        file.write_text(json.dumps({"run": given}), "utf-8")
        command = [python, "-m", "kedro", "run", f"--config={file}"]
        with subprocess.Popen(command, cwd=copy, env=env) as child:
            try:
                child.wait()
            except BaseException:
                child.terminate()
                child.wait()
                raise
    finally:
        file.unlink(missing_ok=True)
    client, where = MlflowClient(), [run.info.experiment_id]
    pages = client.search_runs(where, f"tags.`replay.id` = '{token}'", ViewType.ALL)
    found = [new for new in pages if "mlflow.parentRunId" not in new.data.tags]
    if not found:
        raise ClickException("The pipeline did not start: what it said is above.")
    if found[0].info.status == "RUNNING":  # its process was killed
        client.set_terminated(found[0].info.run_id, "KILLED")
    return client.get_run(found[0].info.run_id)


def outcome(old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what both runs have come to: metrics, models, and what else differs."""
    one, other = facts(old), facts(new)
    metrics = one.pop("metrics"), other.pop("metrics")
    models = fingerprints(old), fingerprints(new)
    for kind, (here, there) in (("", metrics), ("model ", models)):
        for name in sorted(here.keys() | there.keys()):
            yield f"{kind}{name}", here.get(name, "-"), there.get(name, "-")
    for section in ("packages", "code"):  # said before
        one.pop(section)
    for section, *rest in differences(one, other):
        yield f"{section} {rest[0]}", rest[1], rest[2]


def fingerprints(run: Any) -> dict[str, str]:
    """Return a digest of what each model of a run has learnt, by its name."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    found = {}
    for output in run.outputs.model_outputs:
        model = MlflowClient().get_logged_model(output.model_id)
        hashed = hashlib.md5(usedforsecurity=False)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(download_artifacts(model.artifact_location, dst_path=name))
            for file in sorted(folder.rglob("*")):
                if file.is_file() and file.name not in NO_MODEL:
                    hashed.update(file.relative_to(folder).as_posix().encode())
                    hashed.update(learnt(file))
        found[model.name] = hashed.hexdigest()
    return found


def learnt(file: Path) -> bytes:
    """Return a file's contents; those of a skops file without addresses in memory."""
    if file.suffix != ".skops":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        schema = re.sub(rb'"__id__": \d+', b"", archive.read("schema.json"))
        arrays = list(dict.fromkeys(re.findall(rb'"file": "([^"]+)"', schema)))
        for number, name in enumerate(arrays):
            schema = schema.replace(b'"%s"' % name, b'"%d"' % number)
        return schema + b"".join(archive.read(name.decode()) for name in arrays)
