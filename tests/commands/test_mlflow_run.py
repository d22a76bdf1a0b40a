"""`mlflow run`: addresses of Git, and the ways in which it goes wrong.

Nothing of ours is on PATH but the tools that a test names: a package that conda.yaml
forgets cannot come from the environment that launches.
"""

import platform
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from bare_shell import PYTHON, BareShell
from runs import AUTHOR, REPO, ROOT, free_port, run

PAGE = ROOT / "docs" / "mlflow-run.md"
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def shell(bin_, tmp_path, empty_store, fork):
    """Return a bare shell; `mlflow run` is forked, what it starts is not."""
    return BareShell(bin_ / "mlflow", tmp_path, empty_store, fork.run)


@pytest.fixture(scope="session")
def served(generated, tmp_path_factory):
    """Serve a project of two commits by Git's own protocol.

    Returns:
        The URL, the commits ``HEAD`` and ``v1``, and the bare repository's folder.
    """
    daemon = run("git", "--exec-path", cwd=generated).stdout.strip() + "/git-daemon"
    if not Path(daemon).exists():
        pytest.skip("no git daemon: apt-get install git")
    home = tmp_path_factory.mktemp("git")
    project = shutil.copytree(generated, home / REPO)

    def git(*words: str) -> str:
        return run("git", *AUTHOR, *words, cwd=project).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=First")
    git("tag", "v1")
    parameters = project / "conf/base/parameters.yml"
    parameters.write_text(parameters.read_text().replace("margin: 0.0", "margin: 0.5"))
    git("commit", "--quiet", "--all", "--message=Second")
    git("clone", "--quiet", "--bare", ".", str(home / "served" / REPO))
    port = free_port()
    options = ["--reuseaddr", "--export-all", f"--base-path={home / 'served'}"]
    options += ["--listen=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([daemon, *options])
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        commits = {name: git("rev-parse", name) for name in ("HEAD", "v1")}
        yield f"git://127.0.0.1:{port}/{REPO}", commits, home / "served" / REPO
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize("asked", ["HEAD", "commit", "v1"])
def test_git_url_runs_from_an_empty_directory(shell, bin_, served, asked):
    url, commits, _ = served
    commit = commits["HEAD" if asked == "HEAD" else "v1"]
    version = {"HEAD": (), "commit": ("-v", commit), "v1": ("-v", "v1")}[asked]
    empty = shell.home / "empty"
    empty.mkdir()
    shell.add("git")
    said, status = shell.run(
        *(url, *version, "--env-manager", "local"),
        *("--experiment-name", "from git"),
        cwd=empty,
        before=str(bin_),
    )
    assert status == 0, said[-4000:]
    (one,) = shell.runs()
    assert (one.status, one.experiment) == ("FINISHED", "from git")
    assert one.tags["mlflow.source.git.commit"] == commit
    assert one.tags["git.dirty"] == "false"
    assert one.tags["mlflow.source.name"] == url
    margin = one.params["promote_options.margin"]
    assert margin == ("0.5" if asked == "HEAD" else "0.0")
    assert "figures/confusion_matrix.png" in one.artifacts
    # A new experiment of a database keeps its artifacts where it was first used.
    assert {path.name for path in empty.iterdir()} <= {"mlruns"}


LOCAL = ("--env-manager", "local")
CONDA = """#!/bin/sh
[ "$1 $2" = "env list" ] && echo '{"envs": []}'
exit 0
"""
# What a user does, the tools at hand, and the words of the answer that the page has.
WRONG = {
    "no conda": (["."], "", "Could not find Conda executable at conda"),
    "only condabin": (["."], "conda", "activate: No such file or directory"),
    "no uv": ([".", "--env-manager", "uv"], "", "No such file or directory: 'uv'"),
    "no pyenv": (
        [".", "--env-manager", "virtualenv"],
        "",
        "No such file or directory: 'None'",
    ),
    "no environment": ([".", *LOCAL], "", "kedro: command not found"),
    "no such Python": (
        ["other", "--env-manager", "uv"],
        f"uv {PYTHON}",
        "No interpreter found for Python",
    ),
    "no network": (
        [".", "--env-manager", "uv"],
        f"uv {PYTHON}",
        "Failed to fetch",
    ),
    "parameter misspelt": ([".", *LOCAL, "-P", "c=1"], "kedro", "No such option '--c'"),
    "text for a number": (
        [".", *LOCAL, "-P", "C=abc"],
        "kedro",
        "InvalidParameterError",
    ),
    "number out of range": (
        [".", *LOCAL, "-P", "C=-1"],
        "kedro",
        "InvalidParameterError",
    ),
    "unknown option": (
        [".", *LOCAL, "-P", "params=model_options.D=1"],
        "kedro",
        "unexpected keyword argument",
    ),
    "parameter without value": ([".", "-P", "C"], "", "Use -P name=value"),
    "no such entry point": (
        [".", "-e", "train"],
        "",
        "Could not find train among entry points",
    ),
    "not a project": (["conf"], "", "Could not find main among entry points []"),
    "bare repository": (
        ["BARE"],
        "git",
        "Could not find main among entry points []",
    ),
    "no such folder": (["nowhere"], "git", "does not appear to be a git repository"),
    "version of a folder": (
        [".", "-v", "v1"],
        "git",
        "Setting a version is only supported for Git project URIs",
    ),
    "short commit": (
        ["URL", "-v", "SHORT", *LOCAL],
        "git",
        "Unable to checkout version",
    ),
    "no git": (["URL"], "", "Bad git executable"),
    "two experiments": (
        [".", "--experiment-name", "mine"],
        "MLFLOW_EXPERIMENT_ID",
        "Specify only one of 'experiment-name' or 'experiment-id'",
    ),
}


# What stands after Kedro's traceback, and before MLflow's own line about its run.
LAST = {
    "number out of range": r"InvalidParameterError: .*'C' .* Got -1 instead\.",
    "unknown option": r"TypeError: .* keyword argument 'D'",
    "group misspelt": r"Error: .*model_option\b.*model_options.*",
}
FAILED = r" [\d/]+ [\d:]+ ERROR mlflow\.cli: === Run \(ID '\w+'\) failed === "


@pytest.mark.parametrize("way", WRONG)
def test_what_goes_wrong_is_on_the_page(shell, bin_, project, request, way):
    words, tools, message = WRONG[way]
    if {"URL", "BARE"} & {*words}:
        url, commits, bare = request.getfixturevalue("served")
        real = {"URL": url, "SHORT": commits["v1"][:8], "BARE": str(bare)}
        words = [real.get(word, word) for word in words]
    if way == "no such Python":
        other = shutil.copytree(project, project / "other")
        text = (other / "conda.yaml").read_text()
        python = platform.python_version()
        assert f"python={python}" in text
        missing = python.rpartition(".")[0] + ".99"
        (other / "conda.yaml").write_text(text.replace(python, missing))
    env = {
        "MLFLOW_ENV_ROOT": str(shell.home / "environments"),
        **{"UV_DEFAULT_INDEX": NOWHERE, "UV_CACHE_DIR": str(shell.home / "cache")},
        **{"UV_HTTP_RETRIES": "0", "UV_PYTHON_DOWNLOADS": "never"},
    }
    before = ""
    for tool in tools.split():
        if tool == "kedro":
            before = str(bin_)
        elif tool.startswith("MLFLOW_"):
            env[tool] = "0"
        elif tool == "conda":  # what MLflow asks it, without an `activate` beside it
            (shell.tools / tool).write_text(CONDA)
            (shell.tools / tool).chmod(0o755)
        else:
            shell.add(tool)
    said, status = shell.run(*words, cwd=project, before=before, **env)
    assert status != 0
    assert message in said
    if way in LAST:
        assert status == 1
        assert re.search(f"{LAST[way]}{FAILED}$", f"{said} "), said[-1000:]
        (one,) = shell.runs()
        assert one.status == "FAILED" and message in one.tags["failure.error"]
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line[:2] == "| "]
    assert any(f"`{message}" in row or f"{message}`" in row for row in rows)


def test_why_a_version_of_a_folder_is_warned_of(shell, project):
    """MLflow works in the folder itself; the page has the way back, and a better."""

    def git(*words: str) -> str:
        return run("git", *AUTHOR, *words, cwd=project).stdout.strip()

    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "One")):
        git(*words)
    git("tag", "v1")
    git("commit", "--quiet", "--allow-empty", "--message=Two")
    shell.add("git")
    shell.run(".", "-v", "v1", "-e", "nothing", cwd=project)
    assert git("branch", "--show-current") == ""
    assert git("rev-parse", "HEAD") == git("rev-parse", "v1")
    assert git("remote") == "origin"
    git("switch", "-")
    assert git("branch", "--show-current") == "main"


def test_the_last_lines_say_which_group_is_misspelt(shell, bin_, project):
    words = (".", *LOCAL, "-P", "params=model_option.C=1")
    said, status = shell.run(*words, cwd=project, before=str(bin_))
    assert status == 1
    assert re.search(f"{LAST['group misspelt']}{FAILED}$", f"{said} "), said[-1000:]


def test_a_project_without_git_runs(shell, bin_, project):
    said, status = shell.run(".", *LOCAL, cwd=project, before=str(bin_))
    assert status == 0, said[-4000:]
    (one,) = shell.runs()
    assert one.status == "FINISHED"
    assert "mlflow.source.git.commit" not in one.tags
