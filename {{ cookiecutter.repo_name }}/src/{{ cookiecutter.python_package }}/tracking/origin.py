"""What a run must know to be repeated: its command, its code, its packages."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from omegaconf import OmegaConf

from . import store

FOLDER = "environment"  # of a run's artifacts
COMMAND, DIFF, PACKAGES = "run.json", "code.diff", "packages.txt"
LARGEST_DIFF = 5_000_000  # bytes of changed files
HIDDEN = "***"
REPLAY = "replay.of"  # the tag that names the run that is repeated
SECRET = re.compile(r"(^|[._-])(password|passwd|secret|token|api_?key|credentials?)$")
FILTERS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")
# The whole repository, without what is somebody's own.
SHARED = (":/", ":(exclude)conf/local", ":(exclude,top,glob)**/credentials*")


def git(project: Path, *words: str, **environment: str) -> bytes:
    """Return what git prints; nothing where it fails or is not installed."""
    try:
        return subprocess.run(
            ["git", "-C", str(project), *words],
            env={**os.environ, **environment},
            capture_output=True,
        ).stdout
    except FileNotFoundError:
        return b""


def git_state(project: Path) -> dict[str, str]:
    """Return commit, branch, remote and whether files differ; nothing outside git."""
    status = git(project, "status", "--porcelain=v2", "--branch").decode()
    about = dict(re.findall(r"^# branch\.(\w+) (.*)$", status, re.MULTILINE))
    if not re.fullmatch(r"[0-9a-f]+", about.get("oid", "")):
        return {}
    found = {"mlflow.source.git.commit": about["oid"]}
    if about["head"] != "(detached)":
        found["mlflow.source.git.branch"] = about["head"]
    # The remote of this branch, or origin, without asking it.
    remote = git(project, "ls-remote", "--get-url").decode().strip()
    if remote not in ("", "origin"):
        found["mlflow.source.git.repoURL"] = store.mask(remote)
    dirty = any(line[0] != "#" for line in status.splitlines())
    return found | {"git.dirty": str(dirty).lower()}


def diff(project: Path) -> tuple[bytes, str]:
    """Return what differs from the commit, new files included, and its digest.

    Neither what git ignores nor what is in conf/local. The repository is not written
    to. In the place of the digest, a sentence says what is missing.
    """
    options = ("--porcelain", "-z", "--untracked-files=all", "--no-renames")
    changed = git(project, "status", *options, "--", *SHARED).split(b"\0")
    words = ("rev-parse", "--show-toplevel", "--git-path", "index", "--git-path")
    paths = git(project, *words, "objects").splitlines()
    top, index, objects = (project / os.fsdecode(path) for path in paths)
    files = [top / os.fsdecode(entry[3:]) for entry in changed if entry]
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > LARGEST_DIFF:
        return b"", f"left out: the changed files are {size / 1e6:.0f} MB"
    with tempfile.TemporaryDirectory() as folder:
        scratch = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        if index.exists():
            shutil.copy(index, scratch["GIT_INDEX_FILE"])
        git(project, "add", "--all", "--", *SHARED, **scratch)
        against = ("--cached", "-p", "--binary", "HEAD", "--", *SHARED)
        found = git(project, "diff-index", *against, **scratch)
    text = found.decode("utf-8", "surrogateescape")
    masked = store.mask(text)
    if masked != text:
        why = "masked: it holds what looks like credentials"
        return masked.encode("utf-8", "surrogateescape"), why
    return found, hashlib.md5(found, usedforsecurity=False).hexdigest()


def options(
    run_params: dict[str, Any], env: str, pipeline: Any, catalog: Any
) -> dict[str, Any]:
    """Return the options of ``kedro run`` that repeat a run, as ``--config`` has them.

    Versioned inputs are named in the version that is loaded now.
    """
    versions = dict(run_params.get("load_versions") or {})
    for name in sorted(pipeline.inputs()):
        if catalog.config_resolver.resolve_pattern(name).get("versioned"):
            try:
                versions.setdefault(name, catalog.get(name).resolve_load_version())
            except DatasetError:  # the node that loads it will say so
                continue
    runner = re.search(r"<(?:kedro\.[\w.]+\.)?([\w.]+) ", str(run_params["runner"]))
    found = {
        "env": env,
        "pipelines": ",".join(run_params["pipeline_names"] or []),
        **{name: ",".join(run_params[name] or []) for name in FILTERS},
        "namespaces": ",".join(run_params.get("namespaces") or []),
        "load_versions": ",".join(":".join(item) for item in versions.items()),
        "runner": runner[1] if runner and runner[1] != "SequentialRunner" else "",
        "only_missing_outputs": bool(run_params.get("only_missing_outputs")),
        "params": without_secrets(run_params["runtime_params"]),
    }
    return {name: value for name, value in found.items() if value}


def without_secrets(value: Any, name: str = "") -> Any:
    """Hide the values of names like ``password``, and credentials in texts."""
    if isinstance(value, dict):
        return {k: without_secrets(v, f"{name}.{k}") for k, v in value.items()}
    if SECRET.search(name.lower()):
        return HIDDEN
    return store.mask(value) if isinstance(value, str) else value


def command(given: dict[str, Any]) -> str:
    """Return options as a command line; one that names their file, if none can be."""
    words = ["kedro", "run"]
    for name, value in given.items():
        option = f"--{'nodes' if name == 'node_names' else name.replace('_', '-')}"
        if name == "params":
            typed = {key: str(leaf) for key, leaf in leaves(value)}
            for key, leaf in leaves(value):
                same = leaf == HIDDEN or parse(typed[key]) == leaf
                if "," in typed[key] or not same:
                    return f"kedro run --config={COMMAND}"
            value = ",".join(f"{key}={text}" for key, text in typed.items())
        words.append(option if value is True else f"{option}={value}")
    return shlex.join(words)


def leaves(parameters: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested parameters by their dotted names."""
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def parse(text: str) -> Any:
    """Read a parameter as Kedro reads it from the command line: ``1e-2`` is 0.01."""
    try:
        return OmegaConf.from_dotlist([f"value={text}"])["value"]
    except Exception:  # not YAML: a text
        return text


def packages(project: Path) -> str:
    """Return the installed packages as ``uv pip sync`` takes them, without our own."""
    found: dict[str, str] = {}
    for installed in metadata.distributions():
        about = installed.metadata
        name, version = about["Name"], about["Version"]
        if not name or name.lower() in found:  # broken, or hidden by an earlier one
            continue
        source = json.loads(installed.read_text("direct_url.json") or "{}")
        line, url = f"{name}=={version}", source.get("url", "")
        if url.rstrip("/") == project.as_uri():
            continue
        if vcs := source.get("vcs_info"):
            line = f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
        elif url.startswith("file:"):
            line = f"# {line} came from a folder or file of that machine"
        elif url:
            line = f"{name} @ {url}"
        found[name.lower()] = store.mask(line)
    lines = [f"# Python {platform.python_version()}", *sorted(found.values())]
    return "\n".join(lines) + "\n"


def replayed() -> dict[str, str]:
    """Return the tags of the run that this process repeats, if it repeats one."""
    given = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT") or "{}")
    return given if REPLAY in given else {}


def record(run_id: str, given: dict[str, Any], project: Path, dirty: bool) -> None:
    """Log on a run what repeats it.

    Args:
        run_id: MLflow's.
        given: What ``options`` returned.
        project: The project's folder.
        dirty: Whether files differ from the commit.
    """
    from mlflow import MlflowClient
    from mlflow.entities import RunTag

    tags = {"kedro.command": command(given)[:5000]}
    with tempfile.TemporaryDirectory() as folder:
        written = json.dumps({"run": given}, indent=2, default=str)
        Path(folder, COMMAND).write_text(written, "utf-8")
        Path(folder, PACKAGES).write_text(packages(project), "utf-8")
        if dirty:
            found, tags["git.diff"] = diff(project)
            Path(folder, DIFF).write_bytes(found)
        MlflowClient().log_artifacts(run_id, folder, FOLDER)
    entries = [RunTag(*item) for item in tags.items()]
    MlflowClient().log_batch(run_id, tags=entries, synchronous=True)
