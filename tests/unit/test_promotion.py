"""``tracking.promotion``: which of real models becomes the champion."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pandas as pd
import pytest
from click import ClickException
from kedro.pipeline import Node, Pipeline
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from registered import aliases, last_run, versions
from runs import PACKAGE

STRONG = 10.0  # C of the model ``strong``


@pytest.fixture
def project(project_with_models):
    """Return a project with a champion and three more models."""
    return project_with_models


@pytest.fixture
def tracking(tracking, project):
    """Return the package; MLflow is led to a store with a champion."""
    return tracking


@pytest.fixture
def test_rows(project) -> pd.DataFrame:
    """Return the rows by which models are measured."""
    return pd.read_parquet(project / "data" / "02_intermediate" / "test.parquet")


@pytest.fixture
def measure(module) -> Callable:
    """Return what measures a model on rows, as the pipeline does."""
    nodes = module("pipelines.data_science.nodes")
    return lambda model, rows: nodes.measure(rows, nodes.predict(model, rows))


@pytest.fixture
def promote(tracking, measure, test_rows) -> Callable[..., dict]:
    """Return a function that promotes a model in a run of its own."""

    def promoted(uri: str, measure: Callable = measure, **options):
        options = {"name": PACKAGE, "metric": "accuracy"} | options
        chosen = tracking.promotion.PromoteOptions(**options)
        with mlflow.start_run():
            found = measure(mlflow.pyfunc.load_model(uri).get_raw_model(), test_rows)
            return tracking.promotion.promote(uri, found, measure, test_rows, chosen)

    return promoted


# The champion


def test_the_first_version_is_champion_and_names_its_run_data_and_session(
    trained_project,
):
    (version,) = versions()
    (run,) = mlflow.search_runs(
        experiment_names=[PACKAGE], output_format="list", max_results=2
    )
    (data,) = (entry.dataset for entry in run.inputs.dataset_inputs)
    assert aliases() == {"champion": 1}
    assert version.run_id == run.info.run_id
    assert version.tags["data.iris.digest"] == data.digest
    for tag in ("kedro.session_id", "kedro.run_id"):
        assert version.tags[tag] == run.data.tags[tag]
    assert run.data.tags["registry.version"] == f"models:/{PACKAGE}/1"
    for tags in (version.tags, run.data.tags):
        assert tags["registry.decision"] == "champion"
        assert tags["registry.metric"] == "accuracy"
        assert float(tags["registry.score"]) == run.data.metrics["accuracy"]
    assert version.tags["registry.against"] == "no other champion"
    model = MlflowClient().get_logged_model(version.source.rpartition("/")[2])
    shown = json.loads(model.tags["mlflow.modelVersions"])
    assert shown == [{"name": PACKAGE, "version": 1}]


@pytest.mark.slow
def test_a_worse_version_is_challenger(session_run, project, caplog):
    from kedro.runner import ThreadRunner

    caplog.set_level("INFO")
    weak = {"model_options": {"C": 0.0001}}
    session_run(runtime_params=weak, runner=ThreadRunner(), to_nodes=["promote_model"])
    assert f"Model {PACKAGE} version 2 is challenger: accuracy" in caplog.text
    assert aliases() == {"champion": 1, "challenger": 2}
    best, worse = versions()
    assert worse.run_id == last_run().info.run_id
    for tags in (worse.tags, last_run().data.tags):
        assert tags["registry.decision"] == "challenger"
        score = float(best.tags["registry.score"])
        assert tags["registry.against"] == f"{score:.4g} of version 1"
        assert float(tags["registry.score"]) < score
    file = project / "data" / "08_reporting" / "promotion.json"
    decision = json.loads(file.read_text())
    assert decision["decision"] == "challenger"
    assert decision["version"] == f"models:/{PACKAGE}/2"


def test_an_equal_version_is_champion(promote, uris):
    assert promote(uris["weak"])["decision"] == "challenger"
    assert promote(uris["strong"])["decision"] == "champion"
    assert aliases() == {"champion": 3, "challenger": 2}


@pytest.mark.parametrize("margin, decision", [(0.01, "champion"), (0.5, "challenger")])
def test_the_metric_and_the_margin_are_settings(promote, uris, margin, decision):
    less = {"metric": "log_loss", "better": "less", "margin": margin}
    promoted = promote(uris["strong"], **less)
    loss = float(promoted["against"].removesuffix(" of version 1"))
    assert (promoted["decision"], promoted["metric"]) == (decision, "log_loss")
    assert (promoted["score"] <= loss - margin) == (decision == "champion")
    assert aliases() == {"champion": 1} | {decision: 2}
    tags = last_run().data.tags
    assert tags["registry.against"] == promoted["against"]
    assert tags["registry.metric"] == "log_loss"


def test_a_model_is_registered_once(promote, uris):
    for _ in range(2):
        version = promote(uris["strong"])["version"]
        assert version == f"models:/{PACKAGE}/2"
        assert last_run().data.tags["registry.version"] == version
    assert len(versions()) == 2
    # A champion that is promoted again is not judged against itself.
    assert promote(uris["strong"])["against"] == "no other champion"


@pytest.mark.parametrize(
    "part",
    [
        {"pipeline_names": ["score"]},
        {"from_nodes": ["promote_model"]},
        {"only_missing_outputs": True},
    ],
    ids=str,
)
def test_scoring_and_partial_runs_register_no_other_version(
    session_run, project, part, caplog
):
    caplog.set_level("INFO")
    session_run(**part)
    assert len(versions()) == 1 and aliases() == {"champion": 1}
    again = f"Model {PACKAGE} version 1 is champion" in caplog.text
    assert again == ("from_nodes" in part)
    if "only_missing_outputs" in part:
        assert "Running node" not in caplog.text
        assert not [r for r in caplog.records if r.levelname == "ERROR"]


def test_the_decision_is_tagged_below_the_namespace_of_its_node(promote, uris, module):
    namespace = module("tracking.names").node_namespace
    token = namespace.set("north")
    try:
        promote(uris["strong"])
    finally:
        namespace.reset(token)
    assert last_run().data.tags["north.registry.decision"] == "champion"


def test_a_replay_registers_nothing(tracking, uris, test_rows):
    options = tracking.promotion.PromoteOptions(PACKAGE, "a")
    with mlflow.start_run(tags={"replay.of": "0" * 32}):
        decision = tracking.promotion.promote(
            uris["strong"], {}, lambda model, rows: {"a": 1.0}, test_rows, options
        )
    assert decision == {"decision": "none: a replay", "metric": "a", "score": 1.0}
    assert len(versions()) == 1


# What is refused


@pytest.mark.parametrize(
    "options, named",
    [
        ({"metric": "beauty"}, "one of accuracy, "),
        ({"better": "most"}, "better is more or less, not 'most'"),
        ({"name": "a/b"}, "a/b"),
    ],
    ids=str,
)
def test_what_cannot_be_judged_or_registered_is_refused(promote, uris, options, named):
    with pytest.raises((ClickException, MlflowException), match=named):
        promote(uris["strong"], **options)
    assert len(versions()) == 1 and aliases() == {"champion": 1}


def test_a_registry_that_does_not_answer_is_named(promote, uris):
    os.environ["MLFLOW_REGISTRY_URI"] = "http://127.0.0.1:9"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    with pytest.raises(MlflowException, match=r"127\.0\.0\.1"):
        promote(uris["strong"])


class Forbids(BaseHTTPRequestHandler):
    """Answers as MLflow's server does to a user who may do nothing."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        error = {"error_code": "PERMISSION_DENIED", "message": "not yours\nat all"}
        content = json.dumps(error).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *args) -> None:
        pass


def test_a_user_who_may_not_register_is_told_in_one_line(promote, uris):
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbids) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        os.environ["MLFLOW_REGISTRY_URI"] = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ClickException) as caught:
            promote(uris["strong"])
        server.shutdown()
    said = caught.value.message
    assert said.startswith(f"You may not register versions of {PACKAGE}: ")
    assert "not yours -- the run and its model are recorded" in said


@pytest.mark.slow
def test_a_registry_that_refuses_fails_the_node_which_can_be_run_again(
    session_run, project
):
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbids) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        os.environ["MLFLOW_REGISTRY_URI"] = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ClickException, match="You may not register"):
            session_run(node_names=["log_model", "report_accuracy", "promote_model"])
        server.shutdown()
    del os.environ["MLFLOW_REGISTRY_URI"]
    assert aliases() == {"champion": 1}
    failed = last_run()
    assert failed.info.status == "FAILED"
    assert failed.data.tags["failure.node"] == "promote_model"
    assert failed.data.metrics["accuracy"] >= 0.9
    session_run(from_nodes=["promote_model"])
    assert aliases() == {"champion": 2}
    assert versions()[1].run_id == failed.info.run_id


def test_a_champion_that_cannot_be_loaded_is_named(promote, uris, project):
    source = MlflowClient().get_model_version(PACKAGE, "1").source
    model = MlflowClient().get_logged_model(source.rpartition("/")[2])
    shutil.rmtree(model.artifact_location)
    with pytest.raises(ClickException) as caught:
        promote(uris["strong"])
    said = caught.value.message
    assert said.startswith(
        f"The champion, version 1 of {PACKAGE}, cannot be measured: "
    )
    assert len(versions()) == 1
    command = said.partition('python -c "')[2].removesuffix('"')
    exec(command)
    assert promote(uris["strong"])["decision"] == "champion"


def test_a_champion_that_todays_data_do_not_fit_gives_way(promote, uris, tracking):
    narrow = versions()[0].run_id, uris["narrow"]
    version = MlflowClient().create_model_version(PACKAGE, narrow[1], narrow[0])
    tracking.registry.set_alias(PACKAGE, "champion", version.version)
    decision = promote(uris["strong"])
    assert decision["decision"] == "champion"
    assert decision["against"].startswith("version 2, not comparable: ")
    assert aliases() == {"champion": 3}


# Trainings at the same time


def register_meanwhile(ours: float, theirs: float, **tags: str) -> Callable:
    """Return a measure during which another training makes its model the champion."""
    decided = {"decision": "champion", "metric": "a", "score": theirs} | tags
    made = {f"registry.{name}": str(value) for name, value in decided.items()}

    def measured(model, rows) -> dict[str, float]:
        if model[-1].C == STRONG:
            return {"a": ours}
        client, source = MlflowClient(), versions()[0].source
        version = client.create_model_version(PACKAGE, source, tags=made)
        alias = decided["decision"]
        client.set_registered_model_alias(PACKAGE, alias, version.version)
        return {"a": 0.1}

    return measured


@pytest.mark.parametrize(
    "better, theirs, champion",
    [
        ("more", 0.9, {"champion": 2, "challenger": 3}),
        ("more", 0.3, {"champion": 3}),
        ("less", 0.04, {"champion": 2, "challenger": 3}),
        ("more", 0.5, {"champion": 3}),  # equal: the later one
    ],
)
def test_of_trainings_at_once_the_best_becomes_champion(
    promote, uris, better, theirs, champion
):
    measured = register_meanwhile(0.5 if better == "more" else 0.05, theirs)
    decision = promote(uris["strong"], measured, metric="a", better=better)
    assert aliases() == champion
    lost = "challenger" in champion
    assert decision["decision"] == ("challenger" if lost else "champion")
    if lost:
        assert decision["against"] == f"{theirs:.4g} of version 2"
    tags = MlflowClient().get_model_version(PACKAGE, "3").tags
    for found in (tags, last_run().data.tags):
        assert found["registry.decision"] == decision["decision"]
        assert found["registry.against"] == decision["against"]


@pytest.mark.parametrize(
    "tags", [{"decision": "challenger"}, {"metric": "other"}], ids=str
)
def test_only_a_champion_by_the_same_metric_outdoes_another(promote, uris, tags):
    measured = register_meanwhile(0.5, 0.9, **tags)
    decision = promote(uris["strong"], measured, metric="a")
    assert decision["decision"] == "champion" and aliases()["champion"] == 3


def test_a_version_that_became_champion_meanwhile_is_compared(tracking, project):
    client, source = MlflowClient(), versions()[0].source
    rival = {"decision": "champion", "metric": "a", "score": "0.9"}
    tags = {f"registry.{key}": text for key, text in rival.items()}
    client.create_model_version(PACKAGE, source, tags=tags)
    client.set_registered_model_alias(PACKAGE, "champion", "2")
    client.create_model_version(PACKAGE, source)
    options = tracking.promotion.PromoteOptions(PACKAGE, "a")
    decision = tracking.promotion.Decision("a", 0.5)
    # Both were there already, and it was compared with the champion of then.
    known = ("3", decision, "1", {"1", "2"}, options)
    tracking.promotion.set_champion(*known)
    assert aliases() == {"champion": 2}
    assert decision.against == "0.9 of version 2"
    assert client.get_model_version(PACKAGE, "3").tags == decision.tags()


def test_first_trainings_at_once_leave_the_best_as_champion(promote, uris):
    trainings, failed = ("weak", "strong", "narrow"), []
    scores = {0.0001: 0.3, STRONG: 0.9, 1.0: 0.5}
    ready = threading.Barrier(len(trainings))

    def measured(model, rows) -> dict[str, float]:
        return {"a": scores[model[-1].C]}

    def train(name: str) -> None:
        try:
            ready.wait(30)
            promote(uris[name], measured, name="new", metric="a")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=train, args=(name,)) for name in trainings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    found = versions("new")
    assert [int(version.version) for version in found] == [1, 2, 3]
    assert len({version.run_id for version in found}) == 3
    kept = {int(v.version): float(v.tags["registry.score"]) for v in found}
    assert kept[aliases("new")["champion"]] == 0.9


def test_a_node_promotes_what_it_has_logged(tracking, uris, session_run, test_rows):
    """As in a pipeline of the user's own, which is not the training."""

    def node() -> str:
        options = tracking.promotion.PromoteOptions("mine", "a")
        measured = {"a": 1.0}, lambda model, rows: {"a": 1.0}
        return tracking.promotion.promote(uris["weak"], *measured, test_rows, options)[
            "decision"
        ]

    pipeline = Pipeline([Node(node, None, "decision", name="only")])
    session_run(pipeline)
    assert last_run().data.tags["registry.version"] == "models:/mine/1"


def test_what_was_reported_of_another_model_does_not_decide(
    tracking, uris, test_rows, caplog
):
    options = tracking.promotion.PromoteOptions(PACKAGE, "a")
    given = {"a": 1.0}, lambda model, rows: {"a": 0.5}, test_rows, options
    with mlflow.start_run():
        decision = tracking.promotion.promote(uris["strong"], *given)
    assert decision["score"] == 0.5
    assert "The reported a, 1, is not that of the model models:/" in caplog.text


def test_a_name_with_a_quote_is_registered(promote, uris):
    for number, name in enumerate(("weak", "strong"), 1):
        version = promote(uris[name], name="it's iris")["version"]
        assert version == f"models:/it's iris/{number}"
        assert last_run().data.tags["registry.version"] == version
