"""What the project depends on is the same in all files that say it."""

import sys

import pytest
import yaml
from conftest import PROJECT
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def requirements_txt() -> list[str]:
    """Return the lines from which pip and Docker install."""
    lines = (PROJECT / "requirements.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def conda_yaml() -> list[str]:
    """Return the lines from which ``mlflow run`` makes an environment."""
    content = yaml.safe_load((PROJECT / "conda.yaml").read_text("utf-8"))
    (pip,) = [entry for entry in content["dependencies"] if isinstance(entry, dict)]
    return pip["pip"]


@pytest.mark.parametrize("lines", [requirements_txt, conda_yaml])
def test_dependencies_are_those_of_pyproject_toml(lines):
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    declared = pyproject["project"]["dependencies"]
    expected = {Requirement(line): line for line in declared}
    found = {Requirement(line): line for line in lines()}
    file = lines.__name__.replace("_", ".")
    missing = [line for key, line in expected.items() if key not in found]
    assert not missing, f"add to {file}, as in pyproject.toml: {missing}"
    surplus = [line for key, line in found.items() if key not in expected]
    assert not surplus, f"remove from {file}, or add to pyproject.toml: {surplus}"
