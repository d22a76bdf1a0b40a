"""What a run was made from: parameters, data, code, packages; and what it saved."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from click import ClickException
from kedro.io import AbstractVersionedDataset, CachedDataset, DatasetError, Version
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner, Task
from omegaconf import OmegaConf
from packaging.requirements import InvalidRequirement, Requirement

from . import data_locks, redact, store, training_rows

LONGEST_NAME, LONGEST_VALUE, LONGEST_TAG = 250, 6000, 8000
PACKAGE = Path(__file__).resolve().parents[1]
COMMIT = "mlflow.source.git.commit"  # the tag
NO_GIT = "git.unavailable"  # the tag that says why git names no commit
OUTSIDE = "git.dirty_outside"  # the tag of changes beside the project
MISSING = "record.missing"  # the tag that names what a run lacks
FOLDER = "environment"  # of a run's artifacts: what repeats it
FILTERS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")

logger = logging.getLogger(__name__)
namespace: ContextVar[str | None] = ContextVar("namespace", default=None)


def clean_name(name: str) -> str:
    """Return a name as MLflow takes it: cut, with ``_`` for other characters."""
    parts = re.sub(r"[^\w.\- /]", "_", name)[:LONGEST_NAME].split("/")
    return "/".join(part for part in parts if part.strip(". ")).strip(". ") or "_"


def data_tag(name: str, what: str) -> str:
    """Return the name of a tag about a dataset: ``data.NAME.WHAT``."""
    return f"data.{clean_name(name)[:200]}.{what}"


def scoped(name: str) -> str:
    """Put the namespace of the node that is running before a name."""
    return clean_name(".".join(filter(None, (namespace.get(), name))))


def log_metrics(metrics: dict[str, float]) -> None:
    """Log metrics to the active run, each under the namespace of its node."""
    import mlflow

    mlflow.log_metrics({scoped(name): value for name, value in metrics.items()})


def portable(model: Any, train: Any = None) -> dict[str, Any]:
    """Return what ``mlflow.sklearn.log_model`` needs for a model to load elsewhere.

    The types to trust, for the model was just made here; the project's requirements,
    pinned to what is installed; its code, if the model holds functions of it.

    Args:
        model: The fitted model.
        train: The table that it has learnt from. The model keeps digests of its rows,
            by which ``promote`` recognises them among test rows.

    Raises:
        ClickException: skops cannot save the model, or Kedro is needed to load it.
    """
    import mlflow
    import skops.io

    if not mlflow.active_run() and "MLFLOW_RUN_ID" in os.environ:
        mlflow.start_run()  # in a spawned worker, which runs no hooks
    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as error:
        raise ClickException(
            f"skops cannot save this {type(model).__name__}: "
            f"{redact.first_line(error)} -- log it by MLflow's own flavour for it, "
            "such as mlflow.lightgbm.log_model or mlflow.pyfunc.log_model"
        ) from error
    ours = [name for name in types if name.startswith(f"{PACKAGE.name}.")]
    if ours:
        check_loads_without_kedro(ours)
    return {
        "serialization_format": "skops",
        "skops_trusted_types": types or None,
        "pip_requirements": requirements(),
        "code_paths": [str(PACKAGE)] if ours else None,
        "metadata": None if train is None else training_rows.describe(train),
    }


def check_loads_without_kedro(names: list[str]) -> None:
    """Refuse code that cannot be imported where a model is served."""
    modules = sorted({name.rpartition(".")[0] for name in names})
    script = f"import sys; sys.modules['kedro'] = None; import {', '.join(modules)}"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    if done.returncode:
        raise ClickException(
            f"The model holds {', '.join(names)}, which cannot be imported where it is "
            f"served: {done.stderr.strip().rpartition(chr(10))[2]} -- move it into a "
            f"file of its own, such as {PACKAGE.name}/features.py, without Kedro"
        )


def requirements() -> list[str]:
    """Return the project's requirements but Kedro's, pinned to what is installed."""
    file = PACKAGE.parents[1] / "requirements.txt"
    if file.is_file():
        lines = file.read_text("utf-8").splitlines()
    else:  # installed from a wheel
        owners = metadata.packages_distributions().get(PACKAGE.name, [])
        lines = [line for owner in owners for line in metadata.requires(owner) or ()]
    pinned = []
    for line in lines:
        try:
            wanted = Requirement(line.partition("#")[0].strip())
            present = metadata.version(wanted.name)
        except (InvalidRequirement, metadata.PackageNotFoundError):
            continue  # an option of pip, a comment, or another platform's
        if not wanted.name.startswith("kedro") and "extra ==" not in line:
            extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
            pinned.append(f"{wanted.name}{extras}=={present}")
    return pinned


def identity(
    run_params: dict[str, Any], pipeline: Any, project: Path, env: str
) -> dict[str, str]:
    """Return the tags that say what made a run."""
    namespaces = {node.namespace for node in pipeline.nodes if node.namespace}
    runner = re.search(r"(\w+) object at", str(run_params["runner"]))
    return {
        "kedro.run_id": run_params["run_id"],
        "kedro.session_id": run_params.get("session_id") or run_params["run_id"],
        "kedro.version": run_params["kedro_version"],
        "kedro.env": env,
        "kedro.pipeline": ",".join(run_params["pipeline_names"] or ["__default__"]),
        "kedro.runner": runner[1] if runner else "SequentialRunner",
        **{f"kedro.{f}": ",".join(run_params[f]) for f in FILTERS if run_params[f]},
        **({"kedro.namespaces": ",".join(sorted(namespaces))} if namespaces else {}),
        "python.executable": sys.executable,
        "python.version": platform.python_version(),
        **git_state(project),
    }


def git(project: Path, *words: str) -> bytes:
    """Return what git prints; nothing where it fails or is not installed."""
    return ask_git(project, *words)[0]


def ask_git(project: Path, *words: str) -> tuple[bytes, str]:
    """Return what git prints, and why it refuses: in a line, with what git suggests.

    That there is no repository is no refusal.
    """
    command = ["git", "-C", str(project), *words]
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=env)
    except OSError as error:
        inside = any((place / ".git").exists() for place in (project, *project.parents))
        missing = isinstance(error, FileNotFoundError)
        why = "git is not installed" if missing else f"git does not start: {error}"
        return b"", why if inside else ""
    said = " ".join(done.stderr.decode(errors="replace").split())
    if done.returncode == 0 or "not a git repository (or any" in said:
        return done.stdout, ""
    return done.stdout, redact.mask(said.removeprefix("fatal: "))


def git_state(project: Path) -> dict[str, str]:
    """Return commit, branch, remote, whether the project's files differ.

    Nothing outside of git. Where git refuses, a tag and the log say why.
    """
    words = ("status", "--porcelain=v2", "--branch", "--", ".")
    printed, refusal = ask_git(project, *words)
    if refusal:
        logger.warning("No commit is recorded: %s", refusal)
        return {NO_GIT: refusal[:LONGEST_TAG]}
    status = printed.decode(errors="replace")
    about = dict(re.findall(r"^# branch\.(\w+) (.*)$", status, re.MULTILINE))
    if not re.fullmatch(r"[0-9a-f]+", about.get("oid", "")):
        return {}
    # The remote of this branch, or origin, without asking it.
    remote = git(project, "ls-remote", "--get-url").decode().strip()
    where = {
        "mlflow.source.git.branch": about["head"].replace("(detached)", ""),
        "mlflow.source.git.repoURL": "" if remote == "origin" else redact.mask(remote),
    }
    beside = git(project, "status", "--porcelain", "--", ":/", ":(exclude).")
    return {
        COMMIT: about["oid"],
        "git.dirty": str(bool(re.search("^[^#]", status, re.MULTILINE))).lower(),
        **({OUTSIDE: "true"} if beside else {}),
        **{name: text for name, text in where.items() if text},
    }


def flatten(parameters: dict[str, Any]) -> dict[str, str]:
    """Turn nested parameters into MLflow's: dotted names, values as text.

    A list is one value. Characters that MLflow refuses in names become ``_``, long
    names and values are cut, and secrets are hidden.
    """
    flat: dict[str, str] = {}
    todo = list(reversed(redact.parameters(parameters).items()))
    while todo:
        name, value = todo.pop()
        value = value.model_dump() if hasattr(value, "model_dump") else value
        if isinstance(value, dict) and value:
            todo += [(f"{name}.{key}", child) for key, child in reversed(value.items())]
            continue
        name = clean_name(str(name).replace("/", "_"))
        while name in flat:
            name = name[: LONGEST_NAME - 1] + "_"
        flat[name] = str(value)[:LONGEST_VALUE]
    return flat


def parse(text: str) -> Any:
    """Read a parameter as Kedro reads it from the command line: ``1e-2`` is 0.01."""
    try:
        return OmegaConf.from_dotlist([f"value={text}"])["value"]
    except Exception:  # not YAML: a text
        return text


def taken(pipeline: Any, catalog: Any, given: dict[str, Any]) -> dict[str, str]:
    """Return the parameters that the nodes take, and those of the command line."""
    flat = flatten(given)
    for name in sorted(pipeline.inputs()):
        if name == "parameters":
            flat |= flatten(catalog.get(name).load())
        elif name.startswith("params:"):
            flat |= flatten({name.removeprefix("params:"): catalog.get(name).load()})
    return flat


def record_origin(
    run: Any,
    tags: dict[str, str],
    parameters: dict[str, str],
    artifacts: dict[str, bytes],
) -> None:
    """Log parameters, tags and what repeats the run on an MLflow run.

    A parameter that is on the run with another value already, because the caller
    logged it, is logged under its name and Kedro's run id.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    client, run_id = MlflowClient(), run.info.run_id
    for name, text in run.data.params.items():
        if name in parameters:
            ours = parameters.pop(name)
            if parse(ours) != parse(text):
                other = f"{name[:200]}.{tags['kedro.run_id']}"
                logger.warning(
                    "Parameter %s is on the MLflow run as %s; the pipeline's value "
                    "%s is logged as %s.", name, text, ours, other,
                )  # fmt: skip
                parameters[other] = ours
    client.log_batch(
        run_id,
        params=[Param(*item) for item in parameters.items()],
        tags=[RunTag(*item) for item in (tags.items() - run.data.tags.items())],
        synchronous=True,  # a thread that logs would not survive a fork
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifacts.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder, FOLDER)


class File(NamedTuple):
    """A dataset's local file."""

    path: Path
    versioned: bool
    digest: str = ""  # MD5 of an input
    signature: data_locks.Signature | None = None  # when it was digested


def entry(name: str, catalog: Any) -> dict[str, Any]:
    """Return a catalog entry; of a dataset within a cache, the inner one."""
    config = catalog.config_resolver.resolve_pattern(name)
    while isinstance(inner := config.get("dataset"), dict) and not address(config):
        outer = {k: config[k] for k in ("versioned", "metadata") if config.get(k)}
        config = {**inner, **outer}
    return config


def dataset(name: str, catalog: Any) -> Any:
    """Return a dataset; what it keeps, if it is a cache."""
    found = catalog.get(name)
    return found._dataset if isinstance(found, CachedDataset) else found


def address(config: dict[str, Any]) -> str:
    """Return where the data of a catalog entry are; nothing where it does not say."""
    return str(config.get("filepath") or config.get("path") or "")


def local_path(config: dict[str, Any]) -> Path | None:
    """Return the path of a catalog entry, if it leads to this machine's files."""
    text = address(config).removeprefix("file://")
    return Path(text) if text and "://" not in text else None


def shared_paths(names: Iterable[str], catalog: Any) -> list[Path]:
    """Return the local files of datasets that are the same for every run."""
    configs = (entry(name, catalog) for name in names)
    paths = (local_path(c) for c in configs if not c.get("versioned"))
    return [path for path in paths if path]


def catalog_file(name: str, catalog: Any, version: str | None = None) -> File | None:
    """Return a dataset's local file, if it has one; the version that is loaded."""
    config = entry(name, catalog)
    if not (path := local_path(config)):
        return None
    if versioned := bool(config.get("versioned")):
        try:
            version = version or dataset(name, catalog).resolve_load_version()
        except DatasetError:  # the node that loads it will say so
            return None
        path = path / str(version) / path.name
    return File(path, versioned) if path.is_file() else None


def pin_versions(pipeline: Any, catalog: Any, version: str) -> None:
    """Have a run load what it has saved itself, not what is the latest by then."""
    for name in pipeline.all_outputs():
        if entry(name, catalog).get("versioned"):
            saved = dataset(name, catalog)
            if isinstance(saved, AbstractVersionedDataset):
                now: Any = saved._version
                saved._version = Version(now.load or version, now.save)


class Planner(SequentialRunner):
    """Finds out which nodes a runner would run; runs none."""

    planned = Pipeline([])

    def _run(self, pipeline: Any, *_args: Any, **_kwargs: Any) -> None:
        self.planned = pipeline

    @property
    def _logger(self) -> logging.Logger:
        silent = logging.getLogger(f"{__name__}.planner")
        silent.disabled = True
        return silent


def nodes_to_run(pipeline: Any, catalog: Any, run_params: dict[str, Any]) -> Any:
    """Return the part of a pipeline that ``--only-missing-outputs`` leaves to run."""
    if not run_params.get("only_missing_outputs"):
        return pipeline
    planner = Planner()
    planner.run(pipeline, catalog, only_missing_outputs=True)
    return planner.planned


def lineage(files: dict[str, File | None]) -> dict[str, str]:
    """Return which MLflow run has written each input, by dataset.

    Warns if they come from different runs, or have changed since.
    """
    found = {}
    for name, file in files.items():
        if file and (run_id := data_locks.writer(file.path)):
            found[name] = run_id
    if len(set(found.values())) > 1 or any(" " in run for run in found.values()):
        said = ", ".join(f"{name} from {run}" for name, run in found.items())
        logger.warning("The inputs do not come from one run: %s.", said)
    return found


def made_by(run: Any) -> list[str]:
    """Return the ids of the runs that have written the inputs of an MLflow run."""
    tags = run.data.tags.items()
    written = {text for name, text in tags if re.fullmatch(r"data\..*\.run_id", name)}
    return sorted(text for text in written if re.fullmatch("[0-9a-f]{32}", text))


def free_inputs(pipeline: Any) -> list[str]:
    """Return the datasets that a pipeline reads and does not write before."""
    names = sorted(pipeline.inputs())
    return [n for n in names if n != "parameters" and not n.startswith("params:")]


def input_files(pipeline: Any, catalog: Any) -> dict[str, File | None]:
    """Return the files that the pipeline reads, digested, by dataset.

    None stands for what is no local file: a table of a database, a file elsewhere.
    """
    found: dict[str, File | None] = {}
    for name in free_inputs(pipeline):
        if file := catalog_file(name, catalog):
            before = data_locks.signature(file.path)
            file = file._replace(digest=digest(file.path), signature=before)
        found[name] = file
    return found


def digest(path: Path, algorithm: str = "md5") -> str:
    """Return the digest of a file's bytes, as ``md5sum`` does."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def md5(content: bytes) -> str:
    """Return the MD5 digest of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def check_unchanged(run_id: str, name: str, file: File | None) -> bool:
    """Tell whether a file is as it was when it was digested; a tag says if not."""
    from mlflow import MlflowClient

    if not file or data_locks.signature(file.path) == file.signature:
        return True
    logger.warning("%s has changed while the run read it.", file.path)
    why = "unknown: the file changed while the run read it"
    MlflowClient().set_tag(run_id, data_tag(name, "digest"), why)
    return False


def record_input(run_id: str, name: str, file: File | None, table: Any) -> None:
    """Describe an input on the run; where that fails, the log and a tag say so."""
    from mlflow import MlflowClient

    try:
        describe_input(run_id, name, file, table)
    except Exception as error:  # the pipeline needs no description of its input
        said = f"the input {name}: {redact.first_line(error)}"
        logger.warning("Run %s goes on, but lacks %s", run_id, said)
        try:
            missing = [said]
            add_to_missing(run_id, missing)
            MlflowClient().set_tag(run_id, MISSING, "; ".join(missing)[:LONGEST_TAG])
        except Exception as again:
            logger.warning("Its tag %s, too: %s", MISSING, redact.first_line(again))


def add_to_missing(run_id: str, missing: list[str]) -> None:
    """Put what a run is said to lack already before what it lacks besides."""
    from mlflow import MlflowClient

    if said := MlflowClient().get_run(run_id).data.tags.get(MISSING):
        missing.insert(0, said)


def describe_input(run_id: str, name: str, file: File | None, table: Any) -> None:
    """Log a dataset with the digest of its file or, if it has none, of its table.

    The schema of a pandas table is logged with it; a tag says what has no digest.
    """
    if not check_unchanged(run_id, name, file):
        return
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils import validation

    about: dict[str, Any]
    title = name[: validation.MAX_DATASET_NAME_SIZE]
    source: Any = file.path.as_uri() if file else None
    known = file.digest if file else None
    if isinstance(table, pd.DataFrame):
        if not known:
            known = md5(pd.util.hash_pandas_object(table).to_numpy().tobytes())
        with warnings.catch_warnings():  # hints about integers, and on local sources
            warnings.simplefilter("ignore", UserWarning)
            described = from_pandas(table, source=source, name=title, digest=known)
        about = within_limits(name, described.to_dict())
    elif source:
        where = json.dumps({"uri": source})
        about = {"name": title, "digest": known}
        about |= {"source_type": "local", "source": where}
    else:
        why = f"none: {type(table).__name__} is neither a local file nor a pandas table"
        MlflowClient().set_tag(run_id, data_tag(name, "digest"), why)
        return
    context = [InputTag("mlflow.data.context", "input")]
    used = [DatasetInput(Dataset(**about), context)]
    store.insist(MlflowClient().log_inputs, run_id, used)


def within_limits(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Leave out the schema or profile of a dataset that MLflow would refuse."""
    from mlflow.utils import validation

    limits = {
        "schema": validation.MAX_DATASET_SCHEMA_SIZE,
        "profile": validation.MAX_DATASET_PROFILE_SIZE,
    }
    for part, most in limits.items():
        if len(about.get(part) or "") > most:
            logger.warning(
                "%s is logged without its %s: MLflow takes at most %s characters.",
                *(name, part, most),
            )
            del about[part]
    return about


def saved_files(
    kedro_id: str, written: Collection[Path], pipeline: Any, catalog: Any
) -> dict[str, File]:
    """Return the local files that the pipeline has saved, by dataset.

    Args:
        kedro_id: Kedro's id of the run, by which versioned files are named.
        written: The other files that it has written.
        pipeline: The nodes that were to run.
        catalog: Their datasets.
    """
    names = sorted(pipeline.all_outputs())
    found = {name: catalog_file(name, catalog, kedro_id) for name in names}
    return {
        name: file
        for name, file in found.items()
        if file and (file.versioned or data_locks.resolve(file.path) in written)
    }


def describe_failure(
    error: BaseException, pipeline: Any, catalog: Any
) -> dict[str, str]:
    """Return the failed node, the error and its full traceback, without secrets."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        "failure.node": failed_node(error, text, pipeline, catalog),
        "failure.error": redact.mask(f"{type(error).__name__}: {error}")[:LONGEST_TAG],
        "traceback": redact.traceback(text),
    }


def log_failure(run_id: str, failure: dict[str, str]) -> None:
    """Log what ``describe_failure`` has returned."""
    from mlflow import MlflowClient
    from mlflow.entities import RunTag

    tags = [RunTag(*item) for item in failure.items() if item[0] != "traceback"]
    MlflowClient().log_batch(run_id, tags=tags, synchronous=True)
    if text := failure.get("traceback"):
        MlflowClient().log_text(run_id, text, "failure/traceback.txt")


def failed_node(error: BaseException, text: str, pipeline, catalog) -> str:
    """Return the node that raised, or whose data could not be loaded or saved.

    An error from a worker process has lost its frames; there, the node is found by its
    function or its data in the text.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(task := frame.f_locals.get("self"), Task):
            return task.node.name
    for node in pipeline.nodes:
        signs = [f", in {node.func.__name__}\n"]
        for name in (*node.inputs, *node.outputs):
            config = catalog.config_resolver.resolve_pattern(name)
            signs += [f"dataset '{name}'", str(config.get("filepath", f"'{name}'"))]
        if any(sign in text for sign in signs):
            return node.name
    return "unknown"
