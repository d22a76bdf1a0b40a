"""What the benchmarks compare computes the same."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from runs import ROOT, recorded


@pytest.fixture(scope="module")
def compare(tmp_path_factory):
    """Return the program, with its projects in a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import compare

        patch.setattr(compare, "BUILD", tmp_path_factory.mktemp("bench"))
        yield compare


@pytest.fixture(scope="module")
def ours(compare, fork, bin_, empty_store) -> Path:
    """Return the generated project after one run; tests must not change it."""
    project = compare.ours("ours")
    shutil.copy(empty_store, project / "mlflow.db")
    fork.run(bin_ / "kedro", "run", cwd=project)
    return project


def test_the_project_without_tracking_finds_the_same(compare, ours, fork, bin_):
    untracked = compare.untracked("untracked")
    fork.run(bin_ / "kedro", "run", cwd=untracked)
    metrics, theirs = (
        json.loads((project / "data" / "08_reporting" / "metrics.json").read_text())
        for project in (ours, untracked)
    )
    assert metrics == theirs
    assert len(recorded(ours)) == 1
    assert not (untracked / "mlflow.db").exists()


@pytest.mark.parametrize("overlays", [("plain",), ("plain", "article")])
def test_peers_find_the_same_accuracy(compare, fork, bin_, empty_store, overlays):
    project = compare.peer("-".join(overlays), *overlays)
    if tracked := "article" in overlays:
        shutil.copy(empty_store, project / "mlflow.db")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    ran = fork.run(bin_ / "kedro", "run", cwd=project, **env)
    assert "Accuracy 0.933" in ran.stdout + ran.stderr
    assert (project / "mlflow.db").exists() == tracked
    assert not tracked or len(recorded(project)) == 1


def test_the_script_records_the_same(compare, ours, fork, bin_, empty_store):
    (compare.BUILD / "env-ours").symlink_to(bin_.parent)
    task = compare.script()
    shutil.copy(empty_store, task.cwd / "mlflow.db")
    fork.run(*task.command, cwd=task.cwd)
    (script,), (run,) = recorded(task.cwd), recorded(ours)
    assert script.status == run.status == "FINISHED"
    assert script.metrics == pytest.approx(run.metrics)
    # It has no options of a command that would repeat it, and no record for drift.
    more = {"environment/run.json", "monitoring/training_record.json"}
    assert script.artifacts | more == run.artifacts
    for folder, name in ((task.cwd, "flowers"), (ours, "ours")):
        uri = f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(uri, uri)
        assert client.get_model_version_by_alias(name, "champion").version == 1
        (one,) = recorded(folder)
        assert len(client.get_run(one.id).outputs.model_outputs) == 1


def test_scoring_that_is_not_watched_answers_the_same(compare, ours, fork, bin_):
    unwatched = compare.unwatched("unwatched")
    watched = shutil.copytree(ours, compare.BUILD / "watched")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{watched}/mlflow.db"}
    named = "--params=score_options.model=models:/ours@champion"
    answers, metrics = [], []
    for project, env in ((watched, {}), (unwatched, store)):
        fork.run(bin_ / "kedro", "run", "--pipelines=score", named, cwd=project, **env)
        scored = project / "data" / "07_model_output" / "scored_flowers.csv"
        answers.append(scored.read_text())
        metrics.append(recorded(watched)[-1].metrics)
    assert answers[0] == answers[1]
    assert {*metrics[1]} == {"rows"} < {*metrics[0]}
