"""What docs/monitoring.md shows to run every night, as it stands there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from runs import git, path_of, recorded, write_flowers

# What cron gives to a command.
CRON = {"LOGNAME": "iris", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


@pytest.fixture
def project(trained_project, bin_) -> Path:
    """Return a project in git after one training, with an environment in `.venv`."""
    git(trained_project, "init", "--quiet", "--initial-branch=main")
    git(trained_project, "add", "--all")
    git(trained_project, "commit", "--quiet", "--message=first")
    (trained_project / ".venv").symlink_to(bin_.parent)
    # .gitignore names a folder, and here it is a link.
    (trained_project / ".git/info/exclude").write_text(".venv\n")
    return trained_project


@pytest.fixture
def page(project) -> str:
    """Return the page on monitoring."""
    return (project / "docs/monitoring.md").read_text("utf-8")


@pytest.mark.parametrize("wider", [0, 0.8])
def test_the_lines_for_cron_work_where_cron_runs_them(project, page, tmp_path, wider):
    lines = re.findall(r"^\d+ \d+ \* \* \* (.*)$", page, re.M)
    assert len(lines) == 2
    data, home = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    home.mkdir()
    for name, labelled in (("new.csv", False), ("labelled.csv", True)):
        write_flowers(data / name, project, labelled=labelled, petal_width=wider)
    mails = []
    for line in lines:
        command = line.replace(f"/srv/{project.name}", str(project))
        command = command.replace("=/data/", f"={data}/")
        assert command.count(str(tmp_path)) == 2
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=home,
            env={"HOME": str(home), **CRON},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        mails.append(done.stdout)
    _, score, monitor = recorded(project)
    if wider:
        drifted, worse = mails
        assert "Drift since the training: petal_width" in drifted
        assert "when it was trained: worse by more than 0.05" in worse
        assert score.status == monitor.status == "FAILED"
    else:
        assert mails == ["", ""]
        assert score.status == monitor.status == "FINISHED"
    assert score.tags["drift.verdict"] and monitor.tags["monitor.verdict"]
    assert git(project, "status", "--porcelain") == ""


def test_the_steps_for_github_work_in_a_checkout(project, page, fork, bin_):
    (text,) = re.findall(r"^```yaml\n(# \.github/.*?)^```$", page, re.M | re.S)
    steps = yaml.safe_load(text)["jobs"]["watch"]["steps"]
    commands = [step["run"].split() for step in steps if "run" in step]
    install, *runs = commands
    assert install == ["pip", "install", "-r", "requirements.txt"]
    raw = project / "data/01_raw"
    shutil.copy(raw / "iris.csv", raw / "labelled_flowers.csv")
    for words in runs:
        fork.run(bin_ / words[0], *words[1:], cwd=project, PATH=path_of(bin_))
    _, score, monitor = recorded(project)
    assert score.tags["drift.verdict"] == "too few rows (6)"
    assert "not worse" in monitor.tags["monitor.verdict"]
