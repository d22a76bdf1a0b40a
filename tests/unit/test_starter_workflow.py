"""The workflow of the starter itself: lint and unit tests on every system."""

import re

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from runs import ROOT, lint_workflow

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
TEMPLATES = ROOT / "{{ cookiecutter.repo_name }}" / ".github" / "workflows" / "ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict:
    """Return what the workflow says."""
    return yaml.safe_load(WORKFLOW.read_text("utf-8"))


def test_actionlint_finds_nothing():
    done = lint_workflow(WORKFLOW)
    assert (done.returncode, done.stdout) == (0, "")


def test_unit_tests_run_on_every_system_with_the_oldest_and_newest_python(workflow):
    matrix = workflow["jobs"]["unit"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (supported,) = re.findall(r'^requires-python = "(.+)"$', text, re.MULTILINE)
    oldest, newest = matrix["python"]
    minor = int(oldest.partition(".")[2])
    assert oldest in SpecifierSet(supported)
    assert f"3.{minor - 1}" not in SpecifierSet(supported)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"Python {oldest} to {newest}" in " ".join(readme.split())


def test_actions_are_those_of_generated_projects():
    uses = re.compile(r"uses: (\S+@[0-9a-f]{40} # v[\d.]+)$", re.MULTILINE)
    ours, theirs = (
        set(uses.findall(file.read_text("utf-8"))) for file in (WORKFLOW, TEMPLATES)
    )
    assert ours and ours <= theirs
