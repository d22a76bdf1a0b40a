"""The folder ``tracking/`` works in another Kedro project."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from runs import AUTHOR, PACKAGE, path_of, recorded, run

OTHER = "orders"
PIPELINE = '''
"""A pipeline that has nothing to do with flowers."""

from kedro.pipeline import Node, Pipeline


def sum_up(orders, vat):
    if vat < 0:
        raise ValueError(f"a VAT of {vat}")
    return float(orders["price"].sum() * (1 + vat))


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline([Node(sum_up, ["orders", "params:vat"], "total", name="sum_up")])
'''
CATALOG = """
orders: {type: pandas.CSVDataset, filepath: orders.csv}
total:
  type: json.JSONDataset
  filepath: total.json
  metadata: {mlflow: {artifact_path: totals}}
"""


@pytest.fixture
def tracking(generated) -> Path:
    """Return the package that the projects can share."""
    return generated / "src" / PACKAGE / "tracking"


def test_tracking_works_in_any_kedro_project(
    tracking, fork, bin_, empty_store, tmp_path
):
    path = {"PATH": path_of(bin_)}
    options = ("--tools=none", "--example=no", "--telemetry=no", f"--name={OTHER}")
    fork.run(bin_ / "kedro", "new", *options, cwd=tmp_path, **path)
    project, package = tmp_path / OTHER, tmp_path / OTHER / "src" / OTHER
    (package / "pipelines" / "sums").mkdir()
    (package / "pipelines" / "sums" / "__init__.py").write_text(PIPELINE)
    (project / "conf/base/catalog.yml").write_text(CATALOG)
    (project / "conf/base/parameters.yml").write_text("vat: 0.25\n")
    (project / "orders.csv").write_text("item,price\ntea,4\nmilk,2\n")
    shutil.copy(empty_store, project / "mlflow.db")

    shutil.copytree(tracking, package / "tracking")
    with (package / "settings.py").open("a") as settings:
        settings.write("\nfrom .tracking import MLflowRunHooks\n")
        settings.write("\nHOOKS = (MLflowRunHooks(),)\n")
    run("git", "init", "-q", cwd=project)
    run("git", "add", ".", cwd=project)
    run("git", *AUTHOR, "commit", "-qm", "all", cwd=project)
    commit = run("git", "rev-parse", "HEAD", cwd=project).stdout.strip()

    fork.run(bin_ / "kedro", "run", cwd=project, **path)
    words = ("run", "--params=vat=-1")
    failed = fork.run(bin_ / "kedro", *words, cwd=project, ok=False, **path)
    assert failed.returncode
    good, bad = recorded(project)
    assert (good.status, bad.status) == ("FINISHED", "FAILED")
    assert (good.params, bad.params) == ({"vat": "0.25"}, {"vat": "-1"})
    assert {"totals/total.json", "environment/packages.txt"} <= good.artifacts
    assert bad.tags["failure.node"] == "sum_up"
    assert "a VAT of -1" in bad.tags["failure.error"]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for one in (good, bad):
        assert one.experiment == OTHER
        assert one.tags["mlflow.source.git.commit"] == commit
        assert one.tags["kedro.pipeline"] == "__default__"
        (used,) = client.get_run(one.id).inputs.dataset_inputs
        assert used.dataset.name == "orders"
        md5 = run("md5sum", "orders.csv", cwd=project).stdout.split()[0]
        assert used.dataset.digest == md5
