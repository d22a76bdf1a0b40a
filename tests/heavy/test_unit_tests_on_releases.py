"""The unit tests, on the oldest and on the newest releases."""

import pytest
from releases import NEWEST, OLDEST, compile_requirements, interpreter
from runs import ROOT, build_environment, path_of, run


@pytest.mark.parametrize("minor, resolution", [(10, OLDEST), (13, NEWEST)])
def test_the_unit_tests_pass_with_these_releases(minor, resolution, tmp_path):
    python = interpreter(minor)
    pinned = compile_requirements(resolution, python, tmp_path)
    dev = ("--group", f"{ROOT / 'pyproject.toml'}:dev", "--constraints", pinned)
    theirs = build_environment(tmp_path / "environment", *dev, python=python)
    words = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "tests/unit")
    run(theirs / "python", *words, cwd=ROOT, PATH=path_of(theirs))
