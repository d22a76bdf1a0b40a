"""The tests of this template, on the oldest and on the newest releases."""

import pytest
from pinned import NEWEST, OLDEST, compile_requirements, interpreter
from runs import ROOT, build_environment, path_of, run


# The commands of the newest releases are tested in `.venv`, which has them.
@pytest.mark.parametrize(
    "resolution, minor, tests",
    [
        (OLDEST, 10, ("tests/unit", "tests/commands")),
        (NEWEST, 13, ("tests/unit",)),
    ],
)
def test_it_passes_with_these_releases(resolution, minor, tests, tmp_path):
    python = interpreter(minor)
    pinned = compile_requirements(resolution, python, tmp_path)
    dev = ("--group", f"{ROOT / 'pyproject.toml'}:dev", "--constraints", pinned)
    theirs = build_environment(tmp_path / "environment", *dev, python=python)
    words = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests)
    run(theirs / "python", *words, cwd=ROOT, PATH=path_of(theirs), timeout=3600)
