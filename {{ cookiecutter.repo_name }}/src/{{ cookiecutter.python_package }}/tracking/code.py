"""The code of a run: commit, uncommitted changes and installed packages."""

import json
import logging
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from . import datasets, environment, names, redact

DIFF_FILE, PACKAGES_FILE = "code.diff", "packages.txt"
DIFF_MASKED = "masked: it holds what looks like credentials"  # in the tag git.diff
MAX_DIFF_BYTES = 5_000_000
# The project's folder, without what tracking writes there, ignored by git or not.
PROJECT_PATHS = (
    ".",
    ":(exclude)mlruns",
    ":(exclude).runs",
    ":(exclude,glob)mlflow.db*",
    ":(exclude,glob)**/.locks/**",
)
# And without what is somebody's own; whatever git is set to show.
DIFF_PATHS = (
    *PROJECT_PATHS,
    ":(exclude)conf/local",
    ":(exclude,top,glob)**/credentials*",
)
DIFF_FLAGS = (
    "--binary",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-relative",
)

logger = logging.getLogger(__name__)


def git(project: Path, *words: str) -> bytes:
    """Return git's output; empty if git fails or is not installed."""
    return try_git(project, *words)[0]


def try_git(project: Path, *words: str) -> tuple[bytes, str]:
    """Return git's output and its error, in one line with git's own advice.

    Outside a repository both are empty.
    """
    command = ["git", "-C", str(project), *words]
    env = {**environment.variables(), "LC_ALL": "C"}
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
    """Return tags: commit, branch, remote, and whether files have changed.

    Empty outside git. If git refuses, a tag and the log say why.
    """
    words = ("status", "--porcelain=v2", "--branch", "--", *PROJECT_PATHS)
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
    beside = git(project, "status", "--porcelain", "--", ":/", ":(exclude).")
    tags = {
        names.COMMIT_TAG: about["oid"],
        "git.dirty": str(bool(re.search("^[^#]", status, re.MULTILINE))).lower(),
        names.DIRTY_OUTSIDE_TAG: "true" if beside else "",
        "mlflow.source.git.branch": about["head"].replace("(detached)", ""),
        "mlflow.source.git.repoURL": "" if remote == "origin" else redact.mask(remote),
    }
    return {name: text for name, text in tags.items() if text}


def uncommitted_changes(project: Path) -> tuple[bytes, str]:
    """Return the project's changes since the commit, new files included.

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
    """Return the installed packages in the format of ``uv pip sync``."""
    found: dict[str, str] = {}
    for installed in metadata.distributions():
        about = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
        header = about.partition("\n\n")[0]  # ten times as fast as `metadata` reads it
        values = dict(re.findall(r"(?m)^(Name|Version): (\S+)", header))
        source = json.loads(installed.read_text("direct_url.json") or "{}")
        if "Name" in values and source.get("url", "").rstrip("/") != project.as_uri():
            name, version = values["Name"], values.get("Version")
            line = requirement_line(name, f"{name}=={version}", source)
            found.setdefault(name.lower(), line)  # the first is imported
    lines = [f"# Python {platform.python_version()}", *sorted(found.values())]
    return "\n".join(lines) + "\n"


def requirement_line(name: str, pinned: str, source: dict[str, Any]) -> str:
    """Return how a package is installed again.

    If it is not from an index, its direct_url.json says where it came from.
    """
    if not source.get("url"):
        return pinned
    url = redact.mask(source["url"])
    if vcs := source.get("vcs_info"):
        return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url.startswith("file:"):
        return f"# {pinned} came from a folder or file of that machine"
    return f"{name} @ {url}"
