"""``tracking.search``: candidates as child runs, and the pipeline that searches."""

import time

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from runs import PACKAGE

C = "logisticregression__C"
NAMES = (
    "mean_fit_time",
    "std_fit_time",
    "mean_score_time",
    "std_score_time",
    "mean_test_score",
    "std_test_score",
    "rank_test_score",
)


@pytest.fixture
def tracking(tracking, project):
    """Return the module under test; MLflow is led to an empty store."""
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    return tracking


def children_of(run_id: str) -> list:
    """Return child runs in the order of the search."""
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'",
        output_format="list",
    )
    return sorted(found, key=lambda run: int(run.data.tags["search.candidate"]))


def test_candidates_are_child_runs(tracking):
    began = time.time() - 100
    candidates = [
        tracking.search.Candidate({"a": {"C": 1.0, "deep": None}}, {"score": 0.5}, 2.0),
        tracking.search.Candidate({"a": {"C": 2.0}}, {"score": 0.75, "rank": 1.0}, 3.0),
        tracking.search.Candidate({"a": {"C": -1.0}}, {"score": float("nan")}, 0.5),
    ]
    with mlflow.start_run(tags={"mlflow.source.name": "here", "other": "x"}) as run:
        tracking.search.log_search(candidates, began=began, best=1)
        assert mlflow.active_run().info.run_id == run.info.run_id
    parent, children = mlflow.get_run(run.info.run_id), children_of(run.info.run_id)
    found = [
        (child.info.run_name, child.info.status, child.data.params)
        for child in children
    ]
    assert found == [
        ("candidate 0", "FINISHED", {"a.C": "1.0", "a.deep": "None"}),
        ("candidate 1", "FINISHED", {"a.C": "2.0"}),
        ("candidate 2", "FAILED", {"a.C": "-1.0"}),
    ]
    assert children[1].data.metrics == {"score": 0.75, "rank": 1.0}
    start = int(began * 1000)
    times = [(child.info.start_time, child.info.end_time) for child in children]
    assert times == [(start, start + ms) for ms in (2000, 3000, 500)]
    for child in children:
        tags = child.data.tags
        assert child.info.experiment_id == run.info.experiment_id
        assert tags["mlflow.source.name"] == "here" and "other" not in tags
        assert tags["mlflow.user"] == parent.data.tags["mlflow.user"]
    same = {child.data.tags["creation.id"] for child in children}
    assert len(same) == 1 and "creation.id" not in parent.data.tags
    chosen = {k: v for k, v in parent.data.tags.items() if k.startswith("search.")}
    assert chosen == {"search.best": "candidate 1", "search.best.a.C": "2.0"}


def test_the_best_is_named_below_the_namespace_of_the_node(tracking, module):
    namespace = module("tracking.names").node_namespace
    token = namespace.set("north")
    try:
        with mlflow.start_run() as run:
            tracking.search.log_search(
                [tracking.search.Candidate({}, {}, 0.1)], began=1.0, best=0
            )
    finally:
        namespace.reset(token)
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert tags["north.search.best"] == "candidate 0"


def test_a_search_outside_of_a_run_makes_one(tracking):
    tracking.search.log_search(
        [tracking.search.Candidate({}, {"a": 1.0}, 0.1)], began=1.0, best=0
    )
    run_id = mlflow.active_run().info.run_id
    assert len(children_of(run_id)) == 1


def test_a_candidate_that_was_made_twice_is_there_once(tracking, monkeypatch):
    """The answer to its making is lost, and MLflow asks again."""
    create = MlflowClient.create_run

    def twice(self, *args, **kwargs):
        create(self, *args, **kwargs)
        return create(self, *args, **kwargs)

    tried = [tracking.search.Candidate({"a": n}, {"b": 1.0}, 0.1) for n in range(2)]
    with mlflow.start_run() as run:
        monkeypatch.setattr(MlflowClient, "create_run", twice)
        tracking.search.log_search(tried, began=1.0, best=0)
    children = children_of(run.info.run_id)
    assert [child.info.status for child in children] == ["FINISHED", "FINISHED"]


def seconds_of(call, *args, **kwargs) -> float:
    """Return the processor time of a call."""
    began = time.process_time()
    call(*args, **kwargs)
    return time.process_time() - began


def log_barely(candidates, experiment: str) -> None:
    """Log candidates with the three requests that each must take."""
    client = MlflowClient()
    for params, metrics, _ in candidates:
        run_id = client.create_run(experiment).info.run_id
        metrics = [Metric(name, value, 0, 0) for name, value in metrics.items()]
        params = [Param(name, str(value)) for name, value in params.items()]
        client.log_batch(run_id, metrics, params, synchronous=True)
        client.set_terminated(run_id)


# The pipeline `tune`


@pytest.fixture
def tune(project, session_run, runs_of):
    """Return a function that searches in this process.

    It takes the options of the search, and returns the run and its children.
    """

    def searched(**options):
        file = project / "conf" / "base" / "parameters.yml"
        parameters = yaml.safe_load(file.read_text())
        parameters["tune_options"] = options
        file.write_text(yaml.safe_dump(parameters))
        alone = {"parallel": {"n_jobs": 1}}
        nodes = {"pipeline_names": ["tune"], "to_outputs": ["search"]}
        session_run(runtime_params=alone, **nodes)
        runs = runs_of()
        (parent,) = (run for run in runs if run.tags.get("kedro.pipeline") == "tune")
        children = [r for r in runs if r.tags.get("mlflow.parentRunId") == parent.id]
        return parent, sorted(children, key=lambda r: int(r.tags["search.candidate"]))

    return searched


@pytest.mark.slow
def test_a_grid_is_searched_and_a_candidate_that_cannot_be_fitted_has_failed(tune):
    grid = [{C: [1.0, -1.0]}, {"logisticregression__class_weight": [None, "balanced"]}]
    parent, children = tune(search="GridSearchCV", param_grid=grid)
    statuses = [child.status for child in children]
    assert statuses == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert [child.name for child in children] == [f"candidate {n}" for n in range(4)]
    assert [set(child.params) for child in children[1:3]] == [
        {C},
        {"logisticregression__class_weight"},
    ]
    fitted = [child for child in children if child.status == "FINISHED"]
    for child in fitted:
        assert child.experiment == PACKAGE and "kedro.run_id" not in child.tags
        assert 0 < child.metrics["mean_test_score"] <= 1
        assert set(NAMES) <= child.metrics.keys()
    best = min(fitted, key=lambda child: child.metrics["rank_test_score"])
    assert parent.status == "FINISHED" and "figures/search.png" in parent.artifacts
    assert parent.tags["search.best"] == best.name
    for name, value in best.params.items():
        assert parent.tags[f"search.best.{name}"] == value
    assert parent.params["tune_options.search"] == "GridSearchCV"


SEARCHES = {
    "RandomizedSearchCV": {"param_distributions": {C: [0.1, 1, 10]}, "n_iter": 2},
    "HalvingGridSearchCV": {"param_grid": {C: [0.1, 1, 10]}, "cv": 2, "factor": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_other_searches(tune, search):
    parent, children = tune(search=search, **SEARCHES[search])
    assert parent.status == "FINISHED"
    halving = search.startswith("Halving")
    assert len(children) == (4 if halving else 2)
    assert {child.metrics.get("iter") for child in children} == (
        {0.0, 1.0} if halving else {None}
    )


def test_a_search_that_fails_says_where_it_was(tune, runs_of):
    with pytest.raises(RuntimeError, match="the search on this machine has failed: "):
        tune(search="GridSearchCV", param_grid={"unknown__option": [1]})
    (run,) = runs_of()
    assert run.status == "FAILED" and run.tags["failure.node"] == "tune_model"


def test_a_training_does_not_search(importable):
    from kedro.framework.project import configure_project, pipelines

    configure_project(PACKAGE)
    trains = {node.name for node in pipelines["__default__"].nodes}
    searches = {node.name for node in pipelines["tune"].nodes}
    assert "train_model" in trains and "tune_model" not in trains
    assert {"tune_model", "promote_model"} < searches
