"""Trainings, and which of their models is the champion."""

import json
import shutil
import time

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, REPO, free_port, path_of, run, start, tracking_server

WORSE = ("--params", "model_options.C=0.0001")


@pytest.fixture
def train(bin_):
    """Return a function that trains in a project, by ``kedro run`` or otherwise."""

    def command(
        project, *options: str, program: str = "kedro", ok: bool = True, **changes: str
    ):
        env = {"PATH": path_of(bin_), "COLUMNS": "300"} | changes
        return run(bin_ / program, "run", *options, cwd=project, ok=ok, **env)

    return command


@pytest.fixture(scope="module")
def first(generated, bin_, tmp_path_factory):
    """Return a project in which one model has been trained; tests only look at it."""
    project = shutil.copytree(generated, tmp_path_factory.mktemp("first") / REPO)
    path = {"PATH": path_of(bin_)}
    run(bin_ / "kedro", "run", cwd=project, **path)
    return project


@pytest.fixture
def project(first, tmp_path):
    """Return a copy of it, of the test's own."""
    return shutil.copytree(first, tmp_path / REPO)


def client(project) -> MlflowClient:
    uri = f"sqlite:///{project}/mlflow.db"
    return MlflowClient(uri, uri)


def versions(store: MlflowClient) -> list:
    """Return the versions, oldest first."""
    found = store.search_model_versions(f"name = '{PACKAGE}'")
    return sorted(found, key=lambda version: int(version.version))


def aliases(store: MlflowClient) -> dict[str, int]:
    found = store.get_registered_model(PACKAGE).aliases
    return {alias: int(version) for alias, version in found.items()}


def last_run(store: MlflowClient):
    (experiment,) = store.search_experiments(filter_string=f"name = '{PACKAGE}'")
    return store.search_runs([experiment.experiment_id])[0]


def words(result) -> str:
    """Return all that a command has printed, as one line."""
    return " ".join((result.stdout + result.stderr).split())


def test_the_first_version_is_champion_and_names_its_run_data_and_session(first):
    store = client(first)
    (version,) = versions(store)
    made_by = last_run(store)
    (data,) = (entry.dataset for entry in made_by.inputs.dataset_inputs)
    assert aliases(store) == {"champion": 1}
    assert version.run_id == made_by.info.run_id
    assert version.tags["data.iris.digest"] == data.digest
    for tag in ("kedro.session_id", "kedro.run_id"):
        assert version.tags[tag] == made_by.data.tags[tag]
    assert made_by.data.tags["registry.version"] == f"models:/{PACKAGE}/1"
    for tags in (version.tags, made_by.data.tags):
        assert tags["registry.decision"] == "champion"
        assert tags["registry.metric"] == "accuracy"
        assert float(tags["registry.score"]) == made_by.data.metrics["accuracy"]


def test_a_worse_version_stays_challenger_and_an_equal_one_wins(project, train):
    store = client(project)
    said = words(train(project, *WORSE))
    assert f"Model {PACKAGE} version 2 is challenger: accuracy" in said
    assert aliases(store) == {"champion": 1, "challenger": 2}
    best, worse = versions(store)
    for tags in (worse.tags, last_run(store).data.tags):
        assert tags["registry.decision"] == "challenger"
        score = float(best.tags["registry.score"])
        assert tags["registry.against"] == f"{score:.4g} of version 1"
        assert float(tags["registry.score"]) < score
    decision = json.loads((project / "data/08_reporting/promotion.json").read_text())
    assert decision["decision"] == "challenger"
    assert decision["version"] == f"models:/{PACKAGE}/2"
    train(project)
    assert aliases(store) == {"champion": 3, "challenger": 2}


def test_the_margin_and_the_metric_are_settings(project, train):
    less = "promote_options.metric=log_loss,promote_options.better=less"
    options = f"--params={less},promote_options.margin=0.01,model_options.C"
    train(project, f"{options}=1.0")
    assert aliases(client(project)) == {"champion": 1, "challenger": 2}
    train(project, f"{options}=10.0")
    assert aliases(client(project)) == {"champion": 3, "challenger": 2}
    tags = last_run(client(project)).data.tags
    loss = tags["registry.against"].removesuffix(" of version 1")
    assert tags["registry.metric"] == "log_loss"
    assert float(tags["registry.score"]) <= float(loss) - 0.01


def test_scoring_and_partial_runs_register_no_other_version(project, train):
    train(project, "--pipelines=score")
    for again in ("--from-nodes=predict", "--from-nodes=promote_model"):
        assert f"Model {PACKAGE} version 1 is champion" in words(train(project, again))
    assert len(versions(client(project))) == 1


def test_nothing_is_missing_after_a_training(project, train):
    said = words(train(project, "--only-missing-outputs"))
    assert "ERROR" not in said and "Running node" not in said
    assert len(versions(client(project))) == 1


@pytest.mark.parametrize("runner", ["ThreadRunner", "ParallelRunner"])
def test_every_runner_registers(project, train, runner):
    train(project, f"--runner={runner}")
    assert aliases(client(project)) == {"champion": 2}


def test_mlflow_run_registers(project, train):
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    options = (".", "--env-manager=local", f"--experiment-name={PACKAGE}")
    train(project, *options, program="mlflow", **uri)
    assert aliases(client(project)) == {"champion": 2}
    assert versions(client(project))[1].run_id == last_run(client(project)).info.run_id


REFUSALS = {
    "a name with a slash": ("promote_options.name=a/b", {}, "a/b"),
    "no such metric": ("promote_options.metric=beauty", {}, "beauty"),
    "no such direction": ("promote_options.better=most", {}, "most"),
    "no registry": ("", {"MLFLOW_REGISTRY_URI": "http://127.0.0.1:9"}, "127.0.0.1"),
}


@pytest.mark.parametrize("params, env, named", REFUSALS.values(), ids=REFUSALS)
def test_a_registry_that_refuses_fails_the_last_node_which_can_be_run_again(
    project, train, params, env, named
):
    env = env | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    started = time.monotonic()
    failed = train(project, f"--params={params}", ok=False, **env)
    assert time.monotonic() - started < 60
    assert failed.returncode == 1
    assert named in failed.stderr.splitlines()[-1]
    store = client(project)
    assert aliases(store) == {"champion": 1}
    made = last_run(store)
    assert made.info.status == "FAILED"
    assert made.data.tags["failure.node"] == "promote_model"
    assert made.data.metrics["accuracy"] >= 0.9
    train(project, "--from-nodes=promote_model")
    assert aliases(store) == {"champion": 2}
    assert versions(store)[1].run_id == made.info.run_id


@pytest.mark.parametrize("place", ["SQLite", "a server"])
def test_trainings_at_once_lose_no_version_and_leave_the_best_as_champion(
    first, project, bin_, tmp_path, place
):
    if place == "SQLite":
        train_at_once(first, bin_, tmp_path, f"sqlite:///{project}/mlflow.db", known=1)
    else:
        with tracking_server(bin_, tmp_path, free_port()) as (uri, _):
            train_at_once(first, bin_, tmp_path, uri, known=0)


def train_at_once(first, bin_, folder, uri: str, known: int) -> None:
    """Train in three copies of the project at a time, with one registry."""
    path = path_of(bin_)
    strengths = ("1.0", "0.0001", "0.001")
    trainings = [
        start(
            *(bin_ / "kedro", "run", f"--params=model_options.C={C}"),
            cwd=shutil.copytree(first, folder / C),
            output=(folder / f"{C}.log").open("w"),
            PATH=path,
            MLFLOW_TRACKING_URI=uri,
        )
        for C in strengths
    ]
    for training, C in zip(trainings, strengths, strict=True):
        assert training.wait(300) == 0, (folder / f"{C}.log").read_text()
    store = MlflowClient(uri, uri)
    found = versions(store)
    assert [int(version.version) for version in found] == list(range(1, known + 4))
    assert len({version.run_id for version in found}) == len(found)
    scores = {int(v.version): float(v.tags["registry.score"]) for v in found}
    assert scores[aliases(store)["champion"]] == max(scores.values())
    assert len(set(scores.values())) > 1
