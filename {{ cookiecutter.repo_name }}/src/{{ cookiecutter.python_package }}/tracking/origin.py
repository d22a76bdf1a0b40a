"""What repeats a run: its options and inputs, its changes to the code, its packages."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

from . import redact
from .provenance import FILTERS, File, data_tag, flatten, git, md5

OPTIONS, DIFF, PACKAGES = "run.json", "code.diff", "packages.txt"
MASKED = "masked: it holds what looks like credentials"  # in the tag git.diff
REPLAY = "replay.of"  # the tag that names the run that is repeated
LARGEST_DIFF = 5_000_000  # bytes
# The project's folder, without what is somebody's own; whatever git is set to show.
SHARED = (".", ":(exclude)conf/local", ":(exclude,top,glob)**/credentials*")
PLAIN = (
    *("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--no-relative"),
)


def replayed() -> dict[str, str]:
    """Return the tags of the active run, if it repeats another."""
    import mlflow

    run = mlflow.active_run()
    return run.data.tags if run and REPLAY in run.data.tags else {}


def repeated_by(
    given: dict[str, Any],
    inputs: dict[str, File | None],
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
    known = {"kedro.command": command(given)[:5000]}
    known |= {data_tag(name, "run_id"): run for name, run in made_by.items()}
    known |= {data_tag(n, "version"): v for n, v in versions(inputs).items()}
    options = json.dumps(written, indent=2).encode()
    artifacts = {OPTIONS: options, PACKAGES: packages(project).encode()}
    if tags.get("git.dirty") == "true":
        artifacts[DIFF], known["git.diff"] = diff(project)
    return known, artifacts


def options(
    run_params: dict[str, Any], env: str, files: dict[str, File | None]
) -> dict[str, Any]:
    """Return the options of ``kedro run`` that repeat a run, as ``--config`` has them.

    Versioned inputs are named in the version that is loaded now; secrets are hidden.
    """
    loaded = versions(files) | (run_params.get("load_versions") or {})
    runner = re.search(r"<(?:kedro\.[\w.]+\.)?([\w.]+) ", str(run_params["runner"]))
    given = json.dumps(run_params["runtime_params"] or {}, default=str)
    lists = {name: run_params.get(name) for name in (*FILTERS, "namespaces")}
    lists["pipelines"] = run_params["pipeline_names"]
    lists["load_versions"] = [":".join(item) for item in loaded.items()]
    found = {
        "env": env,
        "runner": runner[1] if runner else "",
        **{name: ",".join(chosen or []) for name, chosen in lists.items()},
        "params": redact.parameters(json.loads(given)),
    }
    return {name: value for name, value in found.items() if value}


def versions(files: dict[str, File | None]) -> dict[str, str]:
    """Return the versions of versioned inputs, by dataset."""
    found = {name: file for name, file in files.items() if file and file.versioned}
    return {name: file.path.parent.name for name, file in found.items()}


def command(given: dict[str, Any]) -> str:
    """Return options as one types them."""
    words = []
    for name, value in given.items():
        if name == "params":
            value = ",".join(f"{k}={text}" for k, text in flatten(value).items())
        option = f"--{name.replace('node_names', 'nodes').replace('_', '-')}"
        words.append(option if value is True else f"{option}={value}")
    return shlex.join(["kedro", "run", *words])


def diff(project: Path) -> tuple[bytes, str]:
    """Return what differs in the project from the commit, new files included.

    Returns:
        The diff, without what git ignores and what is in conf/local; and its digest,
        or in its place a sentence that says what is missing. The repository is not
        written to.
    """
    top = Path(os.fsdecode(git(project, "rev-parse", "--show-toplevel").rstrip()))
    words = ("--others", "--exclude-standard", "--full-name", "-z", "--", *SHARED)
    listed = git(project, "ls-files", *words).split(b"\0")
    new = [os.fsdecode(name) for name in listed if name]
    size, found = sum((top / name).lstat().st_size for name in new), b""
    if size <= LARGEST_DIFF:
        found = git(project, "diff", *PLAIN, "HEAD", "--", *SHARED)
        for name in new:
            found += git(top, "diff", *PLAIN, "--no-index", "--", os.devnull, name)
    if max(size, len(found)) > LARGEST_DIFF:
        return b"", f"left out: it is over {LARGEST_DIFF / 1e6:.0f} MB"
    text = found.decode("utf-8", "surrogateescape")
    if (masked := redact.diff(text)) != text:
        return masked.encode("utf-8", "surrogateescape"), MASKED
    return found, md5(found)


def packages(project: Path) -> str:
    """Return the installed packages as ``uv pip sync`` takes them, without our own."""
    found: dict[str, str] = {}
    for installed in metadata.distributions():
        name, version = (installed.metadata[key] for key in ("Name", "Version"))
        source = json.loads(installed.read_text("direct_url.json") or "{}")
        line, url = f"{name}=={version}", redact.mask(source.get("url", ""))
        if vcs := source.get("vcs_info"):
            line = f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
        elif url.startswith("file:"):
            line = f"# {line} came from a folder or file of that machine"
        elif url:
            line = f"{name} @ {url}"
        if name and url.rstrip("/") != project.as_uri():
            found.setdefault(name.lower(), line)  # the first is imported
    lines = [f"# Python {platform.python_version()}", *sorted(found.values())]
    return "\n".join(lines) + "\n"
