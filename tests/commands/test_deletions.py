"""What the README of a project says may be deleted: all of it."""

import shutil

from deletions import ROWS, delete
from runs import PACKAGE, path_of, recorded


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
