"""A project on the oldest and newest Python, and its wheel without the project."""

import shutil
from pathlib import Path

import pytest
import yaml
from runs import (
    NAME,
    PACKAGE,
    REPO,
    ROOT,
    build_environment,
    interpreters,
    path_of,
    recorded,
    run,
)


def test_the_wheel_runs_where_there_is_no_project(project, bin_, tmp_path):
    run(bin_ / "kedro", "package", cwd=project, PATH=path_of(bin_))
    (wheel,) = (project / "dist").glob("*.whl")
    (conf,) = (project / "dist").glob("conf-*.tar.gz")
    theirs = build_environment(tmp_path / "environment", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(project / "data/01_raw", elsewhere / "data/01_raw")
    source = f"--conf-source={shutil.copy(conf, elsewhere)}"
    shutil.rmtree(project)
    run(theirs / "python", "-m", PACKAGE, source, cwd=elsewhere)
    (one,) = recorded(elsewhere)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert Path(one.tags["python.executable"]).parent == theirs


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_supported_pythons_generate_run_and_test_a_project(tmp_path, age):
    found = interpreters()
    version, python = found[0 if age == "oldest" else -1]
    if age == "newest" and version == found[0][0]:
        pytest.skip("one supported Python, which is tested: install another by pyenv")
    requirements = ROOT / "{{ cookiecutter.repo_name }}" / "requirements.txt"
    theirs = build_environment(
        tmp_path / "environment", "-r", requirements, "pytest", python=python
    )
    new = ("new", f"--starter={ROOT}", f"--name={NAME}", "--telemetry=no")
    path = path_of(theirs)
    run(theirs / "kedro", *new, cwd=tmp_path, PATH=path)
    project = tmp_path / REPO
    conda = yaml.safe_load((project / "conda.yaml").read_text())
    assert conda["dependencies"][0] == "python=" + ".".join(map(str, version))
    run(theirs / "kedro", "run", cwd=project, PATH=path)
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert one.tags["python.version"] == ".".join(map(str, version))
    run(theirs / "python", "-m", "pytest", cwd=project, PATH=path)
