"""What the README of a project says may be deleted: each alone, and all of it."""

import re
import shutil

import pytest
from runs import PACKAGE, ROOT, path_of, recorded, run

README = ROOT / "{{ cookiecutter.repo_name }}" / "README.md"


def rows() -> list[tuple[str, ...]]:
    """Return the paths of each row of the table."""
    text = README.read_text("utf-8").replace(
        "{{ cookiecutter.python_package }}", PACKAGE
    )
    (table,) = re.findall(r"^## What you may delete\n(.*?)^## ", text, re.M | re.S)
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [tuple(re.findall("`(.*?)`", line.split("|")[1])) for line in lines]


ROWS = rows()
WORKFLOW = ".github/workflows/ci.yml"
JOB = r"\n(?:  #.*\n)+  {}:\n(?:    .*\n|\n(?=    ))*"
EDITS = {  # as the last column has them
    f"src/{PACKAGE}/tracking/commands": {
        f"src/{PACKAGE}/cli.py": (
            r"\nfrom \.tracking\.commands import COMMANDS\n",
            r"\n*for .* in COMMANDS:\n.*",
        ),
        WORKFLOW: (JOB.format("compare"), JOB.format("champion")),
    },
    "compare_branches.py": {WORKFLOW: (JOB.format("compare"),)},
}


def delete(project, paths: tuple[str, ...]) -> None:
    """Delete files and folders, and make the edits that go with them."""
    for name in paths:
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in paths:
        for file, patterns in EDITS.get(name, {}).items():
            for pattern in patterns:
                text, edits = re.subn(pattern, "", (project / file).read_text())
                assert edits == 1 or (edits == 0 and len(paths) > 1)  # made already
                (project / file).write_text(text)


@pytest.mark.parametrize("deleted", ROWS, ids=[row[0] for row in ROWS])
def test_what_is_left_loads_and_passes_its_tests(project, kedro, fork, bin_, deleted):
    """One of these tests is a run of the pipeline."""
    delete(project, deleted)
    left = kedro("registry", "list").stdout
    for name in ("monitor", "score", "tune"):
        gone = f"src/{PACKAGE}/pipelines/{name}" in deleted
        assert (f"- {name}" in left) != gone
    python, path = bin_ / "python", path_of(bin_)
    fork.run(python, "-m", "pytest", "-q", cwd=project, PATH=path)
    fork.run(python, "-m", "ruff", "check", "--no-cache", cwd=project)
    run("actionlint", project / WORKFLOW, cwd=project, PATH=path)
    fork.run(python, "-m", "ruff", "format", "--check", "--no-cache", cwd=project)


def test_a_project_without_all_of_it_runs(project, empty_store, kedro, fork, bin_):
    shutil.copy(empty_store, project / "mlflow.db")
    delete(project, sum(ROWS, ()))
    kedro("run")
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.tags["registry.decision"] == "champion"
    fork.run(bin_ / "python", "-m", "pytest", "-q", cwd=project, PATH=path_of(bin_))


def test_the_table_names_all_that_is_optional():
    named = {*sum(ROWS, ())}
    source = f"src/{PACKAGE}"
    pipelines = {f"{source}/pipelines/{name}" for name in ("monitor", "score", "tune")}
    assert pipelines <= named
    assert {f"{source}/tracking/commands", f"{source}/cluster.py"} <= named
    assert {"conf/cluster", "conf/databricks", "databricks.yml", "Dockerfile"} <= named
    assert "notebooks" in named
