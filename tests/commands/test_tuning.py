"""A search for better options: one run, and a child run for each candidate."""

import json
import re
import shutil

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, path_of, recorded

C = "logisticregression__C"


def tuned(project):
    """Return the last search's run, and its children in the order of the search."""
    runs = recorded(project)
    (parent,) = (one for one in runs if one.tags.get("kedro.pipeline") == "tune")
    children = [r for r in runs if r.tags.get("mlflow.parentRunId") == parent.id]
    return parent, sorted(children, key=lambda r: int(r.tags["search.candidate"]))


@pytest.fixture
def project(project, empty_store):
    """Return a project with a store, so that tests need not wait for one."""
    shutil.copy(empty_store, project / "mlflow.db")
    return project


def test_a_search_is_one_run_with_a_child_a_candidate(project, kedro):
    done = kedro("run", "--pipelines=tune")
    assert re.search(r"Done +50 out of +50", done.stderr)
    parent, children = tuned(project)
    assert parent.status == "FINISHED" and len(children) == 10
    for number, child in enumerate(children):
        assert (child.status, child.name) == ("FINISHED", f"candidate {number}")
        assert child.experiment == PACKAGE and "kedro.run_id" not in child.tags
        assert child.params.keys() == {C, "logisticregression__fit_intercept"}
        assert 0 < child.metrics["mean_test_score"] <= 1
        assert {"std_test_score", "mean_fit_time"} <= child.metrics.keys()
    best = min(children, key=lambda child: child.metrics["rank_test_score"])
    assert parent.tags["search.best"] == best.name
    assert parent.tags[f"search.best.{C}"] == best.params[C]
    pictures = {"search.png", "quality.png", "confusion_matrix.png"}
    assert {f"figures/{name}" for name in pictures} <= parent.artifacts
    assert parent.tags["registry.decision"] == "champion"
    assert parent.params["tune_options.search"] == "GridSearchCV"

    store = MlflowClient(f"sqlite:///{project}/mlflow.db")
    infos = [store.get_run(child.id).info for child in children]
    assert len({info.start_time for info in infos}) == 1
    assert all(0 < info.end_time - info.start_time < 60_000 for info in infos)
    metrics = json.loads((project / "data/08_reporting/metrics.json").read_text())
    assert metrics.items() <= parent.metrics.items()


def test_mlflow_run_searches(project, fork, bin_):
    words = ("-e", "tune", "--env-manager=local")
    given = ("-P", "params=parallel.n_jobs=1,tune_options.cv=2")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    env["PATH"] = path_of(bin_)
    fork.run(bin_ / "mlflow", "run", ".", *words, *given, cwd=project, **env)
    parent, children = tuned(project)
    assert {run.status for run in (parent, *children)} == {"FINISHED"}
    assert len(children) == 10 and parent.params["tune_options.cv"] == "2"
