"""What the benchmarks compare computes the same, with and without MLflow."""

import json

import pytest
from runs import ROOT, run

pytestmark = pytest.mark.slow


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Return the program, with its projects in a folder of the test's own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import compare

    monkeypatch.setattr(compare, "BUILD", tmp_path)
    return compare


def test_the_project_without_tracking_finds_the_same(compare, bin_, tmp_path):
    tracked, untracked = compare.ours("tracked"), compare.untracked("untracked")
    for project in (tracked, untracked):
        run(bin_ / "kedro", "run", cwd=project)
    metrics, theirs = (
        json.loads((project / "data" / "08_reporting" / "metrics.json").read_text())
        for project in (tracked, untracked)
    )
    assert metrics == theirs
    assert (tracked / "mlflow.db").exists()
    assert not (untracked / "mlflow.db").exists()


@pytest.mark.parametrize("overlays", [("plain",), ("plain", "article")])
def test_peers_find_the_same_accuracy(compare, bin_, overlays):
    project = compare.peer("peer", *overlays)
    ran = run(
        bin_ / "kedro",
        "run",
        cwd=project,
        MLFLOW_TRACKING_URI=f"sqlite:///{project}/mlflow.db",
    )
    assert "Accuracy 0.933" in ran.stdout + ran.stderr
    assert (project / "mlflow.db").exists() == ("article" in overlays)
