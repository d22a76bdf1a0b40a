"""The code of a run: commit, uncommitted changes, packages, and the command."""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from . import catalog_files, datasets, names, parameters, redact

OPTIONS_FILE, DIFF_FILE, PACKAGES_FILE = "run.json", "code.diff", "packages.txt"
DIFF_MASKED = "masked: it holds what looks like credentials"  # in the tag git.diff
REPLAY_TAG = "replay.of"  # the tag that names the run that is repeated
MAX_DIFF_BYTES = 5_000_000  # bytes
# The project's folder, without what is somebody's own; whatever git is set to show.
DIFF_PATHS = (".", ":(exclude)conf/local", ":(exclude,top,glob)**/credentials*")
DIFF_FLAGS = (
    *("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--no-relative"),
)
FOLDER = "environment"  # of a run's artifacts: what repeats it
FILTERS = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")

logger = logging.getLogger(__name__)


def replay_tags() -> dict[str, str]:
    """Return the tags of the active run, if it repeats another."""
    import mlflow

    run = mlflow.active_run()
    return run.data.tags if run and REPLAY_TAG in run.data.tags else {}


def reproduction_artifacts(
    given: dict[str, Any],
    inputs: dict[str, catalog_files.DataFile | None],
    made_by: dict[str, str],
    project: Path,
    tags: dict[str, str],
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return what repeats a run: tags, and artifacts by their names.

    Args:
        given: The options of ``kedro run``.
        inputs: The files that it reads, by dataset.
        made_by: The runs that have written them, by dataset.
        project: The project's folder.
        tags: What is known of the run already: whether files differ from the commit.
    """
    here = f"{project.as_posix()}/"
    paths = {n: f.path.as_posix().removeprefix(here) for n, f in inputs.items() if f}
    used = {paths[name]: file.digest for name, file in inputs.items() if file}
    written: dict[str, Any] = {"run": given, "inputs": used}
    if made_by:
        written["made_by"] = {paths[name]: run for name, run in made_by.items()}
    known = {"kedro.command": command_line(given)[:5000]}
    known |= {names.data_tag(name, "run_id"): run for name, run in made_by.items()}
    known |= {
        names.data_tag(n, "version"): v
        for n, v in catalog_files.loaded_versions(inputs).items()
    }
    options = json.dumps(written, indent=2).encode()
    artifacts = {
        OPTIONS_FILE: options,
        PACKAGES_FILE: installed_packages(project).encode(),
    }
    if tags.get("git.dirty") == "true":
        artifacts[DIFF_FILE], known["git.diff"] = uncommitted_changes(project)
    return known, artifacts


def run_options(
    run_params: dict[str, Any],
    env: str,
    files: dict[str, catalog_files.DataFile | None],
) -> dict[str, Any]:
    """Return the options of ``kedro run`` that repeat a run, as ``--config`` has them.

    Versioned inputs are named in the version that is loaded now; secrets are hidden.
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


def command_line(given: dict[str, Any]) -> str:
    """Return options as one types them."""
    words = []
    for name, value in given.items():
        if name == "params":
            value = ",".join(
                f"{k}={text}" for k, text in parameters.flatten(value).items()
            )
        option = f"--{name.replace('node_names', 'nodes').replace('_', '-')}"
        words.append(option if value is True else f"{option}={value}")
    return shlex.join(["kedro", "run", *words])


def git(project: Path, *words: str) -> bytes:
    """Return what git prints; nothing where it fails or is not installed."""
    return try_git(project, *words)[0]


def try_git(project: Path, *words: str) -> tuple[bytes, str]:
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
    printed, refusal = try_git(project, *words)
    if refusal:
        logger.warning("No commit is recorded: %s", refusal)
        return {names.NO_GIT_TAG: refusal[: names.MAX_TAG]}
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
        names.COMMIT_TAG: about["oid"],
        "git.dirty": str(bool(re.search("^[^#]", status, re.MULTILINE))).lower(),
        **({names.DIRTY_OUTSIDE_TAG: "true"} if beside else {}),
        **{name: text for name, text in where.items() if text},
    }


def uncommitted_changes(project: Path) -> tuple[bytes, str]:
    """Return what differs in the project from the commit, new files included.

    Returns:
        The diff, without what git ignores and what is in conf/local; and its digest,
        or in its place a sentence that says what is missing. The repository is not
        written to.
    """
    top = Path(os.fsdecode(git(project, "rev-parse", "--show-toplevel").rstrip()))
    words = ("--others", "--exclude-standard", "--full-name", "-z", "--", *DIFF_PATHS)
    listed = git(project, "ls-files", *words).split(b"\0")
    new = [os.fsdecode(name) for name in listed if name]
    size, found = sum((top / name).lstat().st_size for name in new), b""
    if size <= MAX_DIFF_BYTES:
        found = git(project, "diff", *DIFF_FLAGS, "HEAD", "--", *DIFF_PATHS)
        for name in new:
            found += git(top, "diff", *DIFF_FLAGS, "--no-index", "--", os.devnull, name)
    if max(size, len(found)) > MAX_DIFF_BYTES:
        return b"", f"left out: it is over {MAX_DIFF_BYTES / 1e6:.0f} MB"
    text = found.decode("utf-8", "surrogateescape")
    if (masked := redact.diff(text)) != text:
        return masked.encode("utf-8", "surrogateescape"), DIFF_MASKED
    return found, datasets.md5(found)


def installed_packages(project: Path) -> str:
    """Return the installed packages as ``uv pip sync`` takes them, without our own."""
    found: dict[str, str] = {}
    # To install or remove a package changes the folder that holds it.
    folders = filter(os.path.isdir, map(os.path.abspath, sys.path))
    state = tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders)
    for name, url, line in _requirement_lines(state):
        if name and url.rstrip("/") != project.as_uri():
            found.setdefault(name.lower(), line)  # the first is imported
    lines = [f"# Python {platform.python_version()}", *sorted(found.values())]
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=1)
def _requirement_lines(state: tuple[tuple[str, int], ...]) -> list[tuple[str, ...]]:
    """Return name, source and line of every package; a millisecond for each.

    Args:
        state: The folders of ``sys.path`` and when they changed: the cache's key.
    """
    found = []
    for installed in metadata.distributions():
        about = installed.metadata
        name, version = about["Name"], about["Version"]
        source = json.loads(installed.read_text("direct_url.json") or "{}")
        line, url = f"{name}=={version}", source.get("url", "")
        url = redact.mask(url) if url else ""
        if vcs := source.get("vcs_info"):
            line = f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
        elif url.startswith("file:"):
            line = f"# {line} came from a folder or file of that machine"
        elif url:
            line = f"{name} @ {url}"
        found.append((name, url, line))
    return found
