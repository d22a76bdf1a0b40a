"""What the benchmarks compare computes the same, and how sure their figures are."""

import json

import pytest
from mlflow import MlflowClient
from runs import ROOT, recorded, run


@pytest.fixture
def timing(monkeypatch):
    """Return the module that measures."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import timing

    return timing


@pytest.fixture
def compare(timing, tmp_path, monkeypatch):
    """Return the program, with its projects in a folder of the test's own."""
    import compare

    monkeypatch.setattr(compare, "BUILD", tmp_path)
    return compare


def test_a_figure_is_as_sure_as_its_rounds_agree(timing):
    base = [timing.Sample(seconds, 100) for seconds in (1, 2, 3, 4, 5)]
    twice = [timing.Sample(2 * sample.seconds, 100) for sample in base]
    figure = timing.against("a", "b")
    assert figure({"a": twice, "b": base}) == 2
    assert timing.spread(figure, {"a": twice, "b": base}) == (2, 2)
    noisy = {"a": base, "b": [timing.Sample(1, 100)] * 5}
    low, high = timing.spread(figure, noisy)
    assert 1 <= low < figure(noisy) == 3 < high <= 5


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


def test_the_script_records_the_same(compare, bin_, tmp_path):
    (tmp_path / "env-ours").symlink_to(bin_.parent)
    task, project = compare.script(), compare.ours("ours")
    run(*task.command, cwd=task.cwd)
    run(bin_ / "kedro", "run", cwd=project)
    (script,), (ours,) = recorded(task.cwd), recorded(project)
    assert script.status == ours.status == "FINISHED"
    assert script.metrics == pytest.approx(ours.metrics)
    # It has no options of a command that would repeat it.
    assert script.artifacts | {"environment/run.json"} == ours.artifacts
    for folder, name in ((task.cwd, "flowers"), (project, "ours")):
        uri = f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(uri, uri)
        assert client.get_model_version_by_alias(name, "champion").version == 1
        (one,) = recorded(folder)
        assert len(client.get_run(one.id).outputs.model_outputs) == 2
