"""What the README of a project says may be deleted: each alone."""

import pytest
from deletions import ROWS, WORKFLOW, delete
from runs import PACKAGE, path_of, run


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
