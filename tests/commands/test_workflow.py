"""The workflow that a generated project brings for GitHub Actions."""

import re
from pathlib import Path

import pytest
import yaml
from runs import AUTHOR, ROOT, build_environment, path_of, run

WORKFLOW = Path(".github/workflows/ci.yml")
DEPENDABOT = Path(".github/dependabot.yml")
SOURCE = ROOT / "{{ cookiecutter.repo_name }}" / WORKFLOW


@pytest.fixture
def workflow(generated) -> dict:
    """Return the parsed workflow; `on`, which YAML reads as true, under its name."""
    parsed = yaml.safe_load((generated / WORKFLOW).read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in parsed.items()}


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("text", ["generated", "template"])
def test_github_would_take_it(generated, tmp_path, text):
    file = SOURCE if text == "template" else generated / WORKFLOW
    schema = "--builtin-schema=vendor.github-workflows"
    run("check-jsonschema", schema, file, cwd=tmp_path)


def test_the_schema_refuses_what_github_would(generated, tmp_path):
    broken = tmp_path / "ci.yml"
    text = (generated / WORKFLOW).read_text("utf-8")
    broken.write_text(text.replace("runs-on", "run-on"))
    schema = "--builtin-schema=vendor.github-workflows"
    refused = run("check-jsonschema", schema, broken, cwd=tmp_path, ok=False)
    assert refused.returncode == 1
    assert "'runs-on' is a required property" in refused.stdout


def test_its_actions_are_kept_up_to_date(generated, tmp_path):
    file = generated / DEPENDABOT
    run("check-jsonschema", "--builtin-schema=vendor.dependabot", file, cwd=tmp_path)
    (update,) = yaml.safe_load(file.read_text("utf-8"))["updates"]
    assert update["package-ecosystem"] == "github-actions"


def test_expressions_are_left_to_github(generated):
    text = (generated / WORKFLOW).read_text("utf-8")
    assert re.findall(r"\{\{.*?\}\}", text) == [
        "{{ github.workflow }}",
        "{{ github.ref }}",
    ]
    assert "${{ github.workflow }}-${{ github.ref }}" in text
    assert "{%" not in text


def test_every_push_and_pull_request_is_checked_and_may_only_read(workflow):
    assert set(workflow["on"]) == {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert all(job["timeout-minutes"] <= 30 for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert workflow["env"] == {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_actions_are_pinned_by_commit_and_say_their_version(generated, workflow):
    text = (generated / WORKFLOW).read_text("utf-8")
    pinned = re.findall(r"uses: (\S+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.M)
    assert pinned == ["actions/checkout", "actions/setup-python"]
    assert len(pinned) == sum("uses" in step for step in steps(workflow))
    (checkout,) = (s for s in steps(workflow) if "checkout" in s.get("uses", ""))
    assert checkout["with"] == {"persist-credentials": False}


def test_it_runs_the_python_that_conda_yaml_names(generated, workflow):
    (setup,) = (s for s in steps(workflow) if "setup-python" in s.get("uses", ""))
    conda = yaml.safe_load((generated / "conda.yaml").read_text("utf-8"))
    (python,) = (d for d in conda["dependencies"] if str(d).startswith("python="))
    assert re.fullmatch(r"3\.\d+", setup["with"]["python-version"])
    assert python.startswith(f"python={setup['with']['python-version']}.")


def test_its_steps_pass_in_a_fresh_project(project, workflow, tmp_path):
    """On a machine with Python alone, in the shell that GitHub uses for `run`."""
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", ".", cwd=project)
    run("git", *AUTHOR, "commit", "--quiet", "--message=First", cwd=project)
    bin_ = build_environment(tmp_path / "environment", "pip")
    path = path_of(bin_)
    env = {**workflow["env"], "PATH": path, "GITHUB_ACTIONS": "true", "CI": "true"}
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    for command in commands:
        run("bash", "-e", "-c", command, cwd=project, **env)
    text = "\n".join(commands)
    for tool in ("ruff check", "ruff format --check", "pytest", "mlflow run ."):
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
