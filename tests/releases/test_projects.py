"""A project is generated, runs and is tested on other releases and other Pythons."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from pinned import NEWEST, OLDEST, TEMPLATE, compile_requirements, interpreter
from runs import NAME, REPO, ROOT, build_environment, path_of, recorded, run


def versions(pinned: Path) -> dict[str, Version]:
    """Return the versions of a file of exact requirements."""
    found = re.findall(
        r"^([\w.-]+)(?:\[.+\])?==(\S+)", pinned.read_text(), re.MULTILINE
    )
    return {name: Version(version) for name, version in found}


@pytest.mark.parametrize("resolution", [OLDEST, NEWEST])
@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_a_project_runs_with_these_releases(minor, resolution, tmp_path):
    python = interpreter(minor)
    pinned = compile_requirements(resolution, python, tmp_path)
    found = versions(pinned)
    if resolution == OLDEST:
        text = (TEMPLATE / "requirements.txt").read_text("utf-8")
        for wanted in map(Requirement, text.splitlines()):
            (lowest,) = (s.version for s in wanted.specifier if s.operator == ">=")
            release = Version(lowest).release
            assert found[wanted.name].release[: len(release)] == release, wanted.name
    theirs = build_environment(
        tmp_path / "environment", "-r", pinned, "pytest>=8", python=python
    )
    env = {"PATH": path_of(theirs), "COLUMNS": "300"}
    new = ("new", f"--starter={ROOT}", f"--name={NAME}", "--telemetry=no")
    run(theirs / "kedro", *new, cwd=tmp_path, **env)
    project = tmp_path / REPO
    conda = yaml.safe_load((project / "conda.yaml").read_text("utf-8"))
    run(theirs / "kedro", "run", cwd=project, **env)
    run(theirs / "kedro", "run", "--pipelines=score", cwd=project, **env)
    run(theirs / "kedro", "run", "--runner=ParallelRunner", cwd=project, **env)
    trained, scored, parallel = recorded(project)
    assert [r.status for r in (trained, scored, parallel)] == ["FINISHED"] * 3
    assert trained.metrics["accuracy"] >= 0.9
    assert conda["dependencies"][0] == f"python={trained.tags['python.version']}"
    assert trained.tags["python.version"].startswith(f"3.{minor}.")
    assert parallel.metrics == trained.metrics
    run(theirs / "kedro", "runs", cwd=project, **env)
    differ = run(
        *(theirs / "kedro", "runs", "diff", trained.id, parallel.id),
        cwd=project,
        ok=False,
        **env,
    )
    assert differ.returncode in (0, 1), differ.stderr
    run(theirs / "kedro", "replay", trained.id, cwd=project, **env)
    run(theirs / "python", "-m", "pytest", "-q", cwd=project, **env)
