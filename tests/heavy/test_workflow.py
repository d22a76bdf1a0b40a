"""The steps of a generated project's workflow for GitHub Actions, typed here."""

from pathlib import Path

import pytest
import yaml
from runs import AUTHOR, build_environment, path_of, run

WORKFLOW = Path(".github/workflows/ci.yml")


@pytest.fixture
def workflow(generated) -> dict:
    """Return the parsed workflow; `on`, which YAML reads as true, under its name."""
    parsed = yaml.safe_load((generated / WORKFLOW).read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in parsed.items()}


def test_its_steps_pass_in_a_fresh_project(project, workflow, tmp_path):
    """On a machine with Python alone, in the shell that GitHub uses for `run`."""
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", ".", cwd=project)
    run("git", *AUTHOR, "commit", "--quiet", "--message=First", cwd=project)
    bin_ = build_environment(tmp_path / "environment", "pip")
    path = path_of(bin_)
    env = {**workflow["env"], "PATH": path, "GITHUB_ACTIONS": "true", "CI": "true"}
    jobs = (workflow["jobs"][name] for name in ("test", "champion"))
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    for command in commands:
        run("bash", "-e", "-c", command, cwd=project, **env)
    text = "\n".join(commands)
    for tool in (
        "ruff check",
        "ruff format --check",
        "pytest",
        "mlflow run .",
        "kedro replay",
    ):
        assert tool in text
    assert run("git", "status", "--porcelain", cwd=project).stdout == ""
    runs = run(
        *(bin_ / "python", "-c"),
        "import mlflow; runs = mlflow.search_runs(search_all_experiments=True);"
        "print(*runs.status[runs['tags.mlflow.project.entryPoint'] == 'main'])",
        cwd=project,
        MLFLOW_TRACKING_URI=f"sqlite:///{project}/mlflow.db",
    )
    assert runs.stdout.split() == ["FINISHED"]
