"""The workflow that a generated project brings for GitHub Actions."""

import re
from pathlib import Path

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result
from runs import ROOT, lint_workflow

WORKFLOW = Path(".github/workflows/ci.yml")
WATCH = "# .github/workflows/watch.yml\n"
DEPENDABOT = Path(".github/dependabot.yml")
LABELLED = "contains(github.event.pull_request.labels.*.name, 'accept worse metrics')"
SOURCE = ROOT / "{{ cookiecutter.repo_name }}" / WORKFLOW


@pytest.fixture
def workflow(generated) -> dict:
    """Return the parsed workflow; `on`, which YAML reads as true, under its name."""
    parsed = yaml.safe_load((generated / WORKFLOW).read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in parsed.items()}


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def validate(file: Path, schema: str) -> Result:
    """Compare a file with a schema that check-jsonschema brings."""
    words = [f"--builtin-schema=vendor.{schema}", str(file)]
    return CliRunner().invoke(check_jsonschema.main, words)


@pytest.mark.parametrize("text", ["generated", "template"])
def test_github_would_take_it(generated, text):
    file = SOURCE if text == "template" else generated / WORKFLOW
    accepted = validate(file, "github-workflows")
    assert accepted.exit_code == 0, accepted.output


def test_the_schema_refuses_what_github_would(generated, tmp_path):
    broken = tmp_path / "ci.yml"
    text = (generated / WORKFLOW).read_text("utf-8")
    broken.write_text(text.replace("runs-on", "run-on"))
    refused = validate(broken, "github-workflows")
    assert refused.exit_code == 1
    assert "'runs-on' is a required property" in refused.output


def test_its_actions_are_kept_up_to_date(generated):
    file = generated / DEPENDABOT
    accepted = validate(file, "dependabot")
    assert accepted.exit_code == 0, accepted.output
    (update,) = yaml.safe_load(file.read_text("utf-8"))["updates"]
    assert update["package-ecosystem"] == "github-actions"


def test_expressions_are_left_to_github(generated):
    text = (generated / WORKFLOW).read_text("utf-8")
    assert re.findall(r"\{\{.*?\}\}", text) == [
        "{{ github.workflow }}",
        "{{ github.ref }}",
        "{{ github.run_id }}",
        "{{ github.base_ref }}",
        f"{{{{ {LABELLED} && 'yes' || '' }}}}",
        "{{ vars.MLFLOW_TRACKING_URI }}",
        "{{ secrets.MLFLOW_TRACKING_USERNAME }}",
        "{{ secrets.MLFLOW_TRACKING_PASSWORD }}",
        "{{ secrets.MLFLOW_TRACKING_TOKEN }}",
        "{{ github.run_id }}",
    ]
    assert "${{ github.workflow }}-${{ github.ref }}" in text
    assert "{%" not in text


def test_every_push_and_pull_request_is_checked_and_may_only_read(workflow):
    kinds = {"push", "pull_request", "schedule", "workflow_dispatch"}
    assert set(workflow["on"]) == kinds
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert all(job["timeout-minutes"] <= 30 for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert workflow["env"] == {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_actions_are_pinned_by_commit_and_say_their_version(generated, workflow):
    text = (generated / WORKFLOW).read_text("utf-8")
    pinned = re.findall(r"uses: (\S+)@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.M)
    assert set(pinned) == {
        "actions/cache",
        "actions/cache/restore",
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    }
    assert len(pinned) == sum("uses" in step for step in steps(workflow))
    checkouts = [s for s in steps(workflow) if "checkout" in s.get("uses", "")]
    assert len(checkouts) == len(workflow["jobs"])
    assert not any(checkout["with"]["persist-credentials"] for checkout in checkouts)


def test_it_runs_the_python_that_conda_yaml_names(generated, workflow):
    setups = [s for s in steps(workflow) if "setup-python" in s.get("uses", "")]
    setup = setups[0]
    assert [other["with"] for other in setups] == [setup["with"]] * len(
        workflow["jobs"]
    )
    conda = yaml.safe_load((generated / "conda.yaml").read_text("utf-8"))
    (python,) = (d for d in conda["dependencies"] if str(d).startswith("python="))
    assert re.fullmatch(r"3\.\d+", setup["with"]["python-version"])
    assert python.startswith(f"python={setup['with']['python-version']}.")


def test_actionlint_finds_nothing(generated):
    done = lint_workflow(generated / WORKFLOW)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "right, wrong, said",
    [
        ("github.base_ref", "github.base_reff", 'property "base_reff" is not defined'),
        ('"origin/$BASE"', "origin/$BASE", "shellcheck reported issue"),
        ("runs-on", "run-on", '"runs-on" section is missing'),
    ],
)
def test_actionlint_finds_mistakes(generated, tmp_path, right, wrong, said):
    text = (generated / WORKFLOW).read_text("utf-8")
    assert right in text
    (tmp_path / "ci.yml").write_text(text.replace(right, wrong))
    done = lint_workflow(tmp_path / "ci.yml")
    assert done.returncode == 1 and said in done.stdout


def test_the_workflow_of_the_page_on_monitoring_is_as_good(generated, tmp_path):
    page = (generated / "docs/monitoring.md").read_text("utf-8")
    (text,) = re.findall(rf"^```yaml\n({WATCH}.*?)^```$", page, re.M | re.S)
    file = tmp_path / "watch.yml"
    file.write_text(text)
    done = lint_workflow(file)
    assert (done.returncode, done.stdout) == (0, "")
    accepted = validate(file, "github-workflows")
    assert accepted.exit_code == 0, accepted.output
    pinned = re.compile(r"uses: (\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$", re.M)
    shipped = pinned.findall((generated / WORKFLOW).read_text("utf-8"))
    used = pinned.findall(text)
    assert len(used) == text.count("uses: ") > 0
    assert set(used) <= set(shipped)


def test_the_pull_request_takes_no_secret_and_no_server(workflow):
    job = workflow["jobs"]["compare"]
    assert job["if"] == "github.event_name == 'pull_request'"
    assert "secrets." not in str(job) and "MLFLOW_TRACKING" not in str(job)
    assert "labeled" in workflow["on"]["pull_request"]["types"]


def test_the_champion_is_the_one_of_the_registry(generated, workflow):
    names = yaml.safe_load((generated / "conf/base/globals.yml").read_text("utf-8"))
    command = workflow["jobs"]["champion"]["steps"][-1]["run"]
    assert f"kedro replay models:/{names['model_name']}@champion\n" in command
