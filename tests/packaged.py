"""The files of this repository, of which a package is built."""

import subprocess

import pytest
from runs import ROOT

TEMPLATE = "{{ cookiecutter.repo_name }}"


def tracked(*paths: str) -> set[str]:
    """Files of the repository that git has, or would take with `git add`."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run([*command, "--", *paths], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git repository: no list of its files")
    names = listed.stdout.decode().split("\0")
    return {name for name in names if (ROOT / name).is_file()}
