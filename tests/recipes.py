"""The recipes of docs/make-it-yours.md, followed in a fresh project."""

import json
import re
import shlex
import urllib.request
from pathlib import Path

import pytest
from harness import ForkServer
from runs import PACKAGE, ROOT, free_port, path_of, run, serving

PAGE = ROOT / "docs" / "make-it-yours.md"
CHAMPION = f"models:/{PACKAGE}@champion"
# What `mlflow models serve` starts as a process of its own.
SERVE = """
import sys
import uvicorn
from mlflow.pyfunc import load_model, scoring_server
uri, port = sys.argv[1:]
uvicorn.run(scoring_server.init(load_model(uri)), port=int(port))
"""
# Files whose change does not count: tests that name iris, and data.
UNCOUNTED = re.compile(r"^(tests/|data/|.*\.csv$)")


def steps(title: str) -> list[str]:
    """Return the blocks of commands below a heading of the page."""
    text = PAGE.read_text("utf-8")
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{2,4}} |\Z)", text, re.M | re.S
    )
    assert found, f"{PAGE.name} has no heading '{title}'"
    return re.findall(r"^```console\n(.*?)^```$", found[2], re.M | re.S)


def diffs(title: str) -> list[str]:
    """Return the files that the commands of a recipe apply, by their path."""
    return re.findall(r"^\$ git apply (\S+)$", "".join(steps(title)), re.M)


def apply(project: Path, title: str, *options: str) -> None:
    """Apply the project's diffs of a recipe with options of ``git apply``."""
    assert diffs(title), f"'{title}' applies no diff"
    for diff in diffs(title):
        done = run("git", "apply", *options, diff, cwd=project, ok=False)
        if done.returncode:
            pytest.fail(f"the diff of '{title}' does not apply: {done.stderr}")


def changed_files(project: Path, title: str) -> set[str]:
    """Return the files that a recipe's diffs change, without ``UNCOUNTED``."""
    text = "".join((project / diff).read_text("utf-8") for diff in diffs(title))
    changed = re.findall(r"^[-+]{3} [ab]/(\S+)", text, re.M)
    return {name for name in changed if not UNCOUNTED.match(name)}


def simple_command(line: str) -> list[str]:
    """Return the words of a line that is one forkable command, else none."""
    shell = re.search(r"[|&;<>$`*?~#\n]", line)
    words = [] if shell else shlex.split(line)
    if words[:1] == ["pytest"]:
        words = ["python", "-m", *words]
    python = words[:3] == ["python", "-m", "pytest"]
    return words if words and (words[0] in ("kedro", "mlflow") or python) else []


def type_in(
    project: Path, bin_: Path, title: str, fork: ForkServer | None = None, **env: str
) -> None:
    """Type the commands of a recipe where an environment is active.

    Args:
        project: Where they are typed.
        bin_: The environment.
        title: The recipe.
        fork: Runs what is one command of ``kedro``, ``mlflow`` or pytest; ``bash`` runs
            the rest, and all without it.
        env: Environment variables.
    """
    env = {"PATH": path_of(bin_), "COLUMNS": "300", **env}
    for text in steps(title):
        for line in re.findall(r"^\$ (.*(?:\n(?![$]).*)*)", text, re.M):
            words = simple_command(line.strip())
            if fork and words:
                fork.run(bin_ / words[0], *words[1:], cwd=project, **env)
                continue
            # uv makes environments without pip: another's must not be taken.
            line = re.sub("^pip install", f"uv pip install -p {bin_}/python", line)
            run("bash", "-ec", line, cwd=project, **env)


def follow(
    project: Path, bin_: Path, title: str, fork: ForkServer | None = None, **env: str
) -> set[str]:
    """Type the commands of a recipe; return the files that its diffs change."""
    assert steps(title), f"'{title}' shows nothing to do"
    type_in(project, bin_, title, fork, **env)
    return changed_files(project, title)


def ask(
    bin_: Path,
    project: Path,
    rows: list[dict],
    uri: str = CHAMPION,
    fork: ForkServer | None = None,
    **options: str,
) -> list:
    """Serve a model, send one request, and return its predictions.

    Args:
        bin_: The environment that serves.
        project: Where the model was logged.
        rows: Records, a column a key.
        uri: The model.
        fork: Forks MLflow's scoring server; without it, ``mlflow models serve`` does.
        options: ``manager`` of the environment (default ``local``).
    """
    port, log = free_port(), project / "serve.log"
    words = [bin_ / "mlflow", "models", "serve", "-m", uri, "-p", port]
    words += ["--host=127.0.0.1", f"--env-manager={options.get('manager', 'local')}"]
    if fork:
        words = [bin_ / "python", "-c", SERVE, uri, port]
    env = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "PATH": path_of(bin_),
    }
    body = json.dumps({"dataframe_records": rows}).encode()
    kind = {"Content-Type": "application/json"}
    with serving(
        *words, port=port, log=log, health="ping", cwd=project.parent, fork=fork, **env
    ) as (url, _):
        request = urllib.request.Request(f"{url}/invocations", body, kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["predictions"]
