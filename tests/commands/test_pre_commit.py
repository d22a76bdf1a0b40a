"""The checks before a commit, which git runs in the generated project."""

import json

import pytest
from runs import AUTHOR, path_of, run

OFFLINE = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def repository(project, bin_, tmp_path):
    """Return a project in git, and the environment in which git is called."""
    env = {"PATH": path_of(bin_), "PRE_COMMIT_HOME": str(tmp_path / "cache"), **OFFLINE}
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", ".", cwd=project)
    run("pre-commit", "install", cwd=project, **env)
    return project, env


def commit(repository, ok: bool = True):
    """Commit all files, with the checks."""
    project, env = repository
    run("git", "add", ".", cwd=project)
    return run("git", *AUTHOR, "commit", "-m", "A change", cwd=project, ok=ok, **env)


def test_a_fresh_project_passes_without_a_network(repository):
    project, _ = repository
    said = commit(repository).stderr
    for check in ("ruff check", "ruff format", "YAML", "files of more than 1 MB"):
        (line,) = [line for line in said.splitlines() if line.startswith(f"{check}...")]
        assert line.endswith("Passed")
    assert run("git", "status", "--porcelain", cwd=project).stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("src/unused.py", "import os\n", "ruff check"),
        ("src/untidy.py", "x = {  'a':1 }\n", "ruff format"),
        (
            "notebooks/untidy.ipynb",
            json.dumps(
                {
                    "cells": [
                        {
                            "cell_type": "code",
                            "execution_count": None,
                            "id": "1",
                            "metadata": {},
                            "outputs": [],
                            "source": ["x = {  'a':1 }"],
                        }
                    ],
                    "metadata": {},
                    "nbformat": 4,
                    "nbformat_minor": 5,
                }
            ),
            "ruff format",
        ),
        ("conf/base/broken.yml", "a: [1\n", "YAML"),
        ("MLproject", "name: [1\n", "YAML"),
        ("data/01_raw/large.csv", "1.5,2.5\n" * 200_000, "files of more than 1 MB"),
    ],
)
def test_what_should_not_be_committed_is_refused(repository, name, content, check):
    project, _ = repository
    (project / name).write_text(content)
    refused = commit(repository, ok=False)
    assert refused.returncode == 1
    failed = [line for line in refused.stderr.splitlines() if line.endswith("Failed")]
    assert [line.split("...")[0] for line in failed] == [check]
    head = run("git", "rev-parse", "--verify", "HEAD", cwd=project, ok=False)
    assert head.returncode
