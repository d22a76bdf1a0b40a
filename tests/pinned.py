"""Files of exact versions: the oldest and the newest that requirements.txt allows."""

from pathlib import Path

import pytest
from runs import ROOT, interpreters, run

TEMPLATE = ROOT / "{{ cookiecutter.repo_name }}"
OLDEST, NEWEST = "lowest-direct", "highest"


def interpreter(minor: int) -> str:
    """Return the interpreter of a minor version, or skip the test."""
    for version, python in reversed(interpreters()):  # the newest of that version
        if version[:2] == (3, minor):
            return python
    pytest.skip(f"no Python 3.{minor}: pyenv install 3.{minor}")


def compile_requirements(resolution: str, python: str, folder: Path) -> Path:
    """Return a file of exact versions of the project's requirements."""
    wanted, pinned = TEMPLATE / "requirements.txt", folder / "pinned.txt"
    command = ("uv", "pip", "compile", "--quiet", f"--resolution={resolution}")
    # The first pandas that is allowed was never built for Python 3.13.
    options = (f"--python={python}", "--only-binary=:all:", f"--output-file={pinned}")
    run(*command, *options, wanted, cwd=folder)
    return pinned
