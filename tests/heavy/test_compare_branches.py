"""The steps of the workflow for pull requests, on two real branches."""

from pathlib import Path

import pytest
import yaml
from runs import PACKAGE, git, path_of, run

PARAMETERS = Path("conf/base/parameters.yml")
NODES = Path(f"src/{PACKAGE}/pipelines/data_science/nodes.py")


def edit(clone: Path, file: Path, old: str, new: str, branch: str) -> None:
    """Commit an edit on a new branch."""
    text = (clone / file).read_text()
    assert old in text
    git(clone, "checkout", "--quiet", "-b", branch)
    (clone / file).write_text(text.replace(old, new, 1))
    git(clone, "commit", "--quiet", "--all", f"--message={branch}")


@pytest.fixture
def clone(project, tmp_path) -> Path:
    """Return a clone of a project in git."""
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--message=first"),
    ):
        git(project, *words)
    git(tmp_path, "clone", "--quiet", str(project), str(tmp_path / "clone"))
    return tmp_path / "clone"


@pytest.fixture
def compare(clone, bin_, tmp_path):
    """Return a function that runs the step as GitHub does; it adds to a summary."""
    workflow = yaml.safe_load((clone / ".github/workflows/ci.yml").read_text())
    jobs = workflow["jobs"]["compare"]["steps"]
    (step,) = (
        step["run"] for step in jobs if "compare_branches" in step.get("run", "")
    )
    summary = tmp_path / "summary.md"

    def call(base: str = "main", accepted: str = ""):
        env = {"PATH": path_of(bin_), "BASE": base, "ACCEPTED": accepted}
        env |= {"GITHUB_STEP_SUMMARY": str(summary), "COLUMNS": "300"}
        done = run("bash", "-e", "-c", step, cwd=clone, ok=False, **env)
        return done, summary.read_text() if summary.exists() else ""

    return call


def test_a_branch_that_is_worse_is_shown_and_refused_until_it_is_accepted(
    clone, compare
):
    edit(clone, PARAMETERS, "C: 1.0", "C: 0.0001", "worse")
    done, summary = compare()
    assert done.returncode == 1, done.stderr
    assert done.stdout == summary
    lines = summary.splitlines()
    assert lines[0] == "## Compared with `origin/main`"
    assert lines[2].startswith("**accuracy**: 0.9333 there, 0.")
    assert lines[2].endswith(" It is worse by more than 0.0.")
    assert "| `parameters` | `model_options.C` | `1.0` | `0.0001` |" in lines
    assert any(line.startswith("| `metrics` | `accuracy` | `0.93") for line in lines)
    assert any(line.startswith("| `code` | `commit` | `") for line in lines)
    assert lines.count("| true \\ predicted | setosa | versicolor | virginica |") == 2
    pictures = list(
        (clone / "comparison").glob("mlruns/**/figures/confusion_matrix.png")
    )
    assert len(pictures) == 2
    assert git(clone, "worktree", "list").count("\n") == 0
    assert git(clone, "status", "--porcelain") == ""
    assert not (clone / "mlflow.db").exists()  # the project's own runs are untouched
    done, summary = compare(accepted="yes")
    assert done.returncode == 0, done.stderr
    assert summary.endswith("That it is worse was accepted.\n")


def test_a_branch_that_repairs_the_pipeline_passes(clone, compare):
    mark = "    model = make_pipeline("
    edit(clone, NODES, mark, f"    raise RuntimeError('broken')\n{mark}", "broken")
    git(clone, "push", "--quiet", "origin", "broken")
    done, summary = compare()
    assert done.returncode == 2 and summary == ""
    assert "The pipeline fails here: what it said is above." in done.stderr
    git(clone, "revert", "--no-edit", "HEAD")
    done, summary = compare(base="broken")
    assert done.returncode == 0, done.stderr
    said = "The pipeline of `origin/broken` fails: nothing to compare with.\n"
    assert summary == said


def test_a_branch_that_is_not_there_is_one_line(compare):
    done, summary = compare(base="nonsense")
    assert done.returncode == 2 and summary == ""
    assert "origin/nonsense" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
