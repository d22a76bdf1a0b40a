"""A run in the middle of the pipeline, and of what is there already."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click import ClickException
from kedro.pipeline import Node, Pipeline
from mlflow import MlflowClient
from runs import PACKAGE, recorded
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

IRIS = Path("data", "01_raw", "iris.csv")
DECIDE: dict = {"to_nodes": ["promote_model"]}  # without pictures
ROW = "5.0,3.0,1.0,0.2,setosa\n"


@pytest.fixture
def pipeline_with(module) -> Callable[[str, Callable], Pipeline]:
    """Return a function that gives a node of the training another function."""
    made = module("pipelines.data_engineering").create_pipeline()
    made += module("pipelines.data_science").create_pipeline()

    def replaced(name: str, function: Callable) -> Pipeline:
        (old,) = (node for node in made.nodes if node.name == name)
        (output,) = old.outputs
        return made.filter(
            node_names=[node.name for node in made.nodes if node.name != name]
        ) + Pipeline([Node(function, old.inputs, output, name=name)])

    return replaced


@pytest.mark.slow
def test_a_run_in_the_middle_names_the_runs_behind_it(
    session_run, runs_of, project, messages
):
    given = {"model_options": {"C": 10}}
    session_run(to_nodes=["train_model"], runtime_params=given)
    session_run(from_nodes=["log_model", "predict"], **DECIDE)
    first, second = runs_of()
    for name in ("model", "train", "test"):
        assert second.tags[f"data.{name}.run_id"] == first.id
    assert not [said for said in messages if "do not come from one run" in said]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias(PACKAGE, "champion")
    assert version.tags["trained.runs"] == first.id
    assert version.tags["trained.model_options.C"] == "10"
    # Another training's table of test rows beside this one's model.
    other = {"split_options": {"random_state": 1}}
    session_run(pipeline_names=["data_engineering"], runtime_params=other)
    session_run(node_names=["predict"])
    third = runs_of()[2]
    (warned,) = (said for said in messages if "do not come from one run" in said)
    assert f"model from {first.id}, test from {third.id}" in warned
    messages.clear()
    with (project / "data" / "06_models" / "model.pkl").open("ab") as file:
        file.write(b"\n")
    session_run(node_names=["predict"])
    assert f"model from changed since run {first.id}" in "\n".join(messages)


def test_only_missing_outputs_records_what_ran(trained_project, session_run):
    project = trained_project
    (project / IRIS).write_text((project / IRIS).read_text() + ROW)
    (project / "data" / "08_reporting" / "metrics.json").unlink()
    options = {"only_missing_outputs": True, "folder": project}
    options["runtime_params"] = {"model_options": {"C": 0.0001}}
    session_run(**options)
    first, second = recorded(project)
    skipped = set(second.tags["kedro.skipped_nodes"].split(","))
    assert "train_model" in skipped and "report_accuracy" not in skipped
    # What was given is named; it was used by no node.
    assert second.params == {"model_options.C": "0.0001"}
    assert second.metrics["accuracy"] == first.metrics["accuracy"]
    assert second.tags["data.predictions.run_id"] == first.id
    assert "data/iris.csv" not in second.artifacts
    session_run(**options)
    third = recorded(project)[2]
    assert third.status == "FINISHED" and third.metrics == {}
    assert set(third.tags["kedro.skipped_nodes"].split(",")) > skipped


def test_a_run_of_no_node_cannot_be_replayed(
    trained_project, session_run, kedro_in_process
):
    session_run(folder=trained_project, only_missing_outputs=True)
    run_id = recorded(trained_project)[1].id
    done = kedro_in_process("replay", run_id, folder=trained_project)
    assert done.exit_code == 2 and "has run no node" in done.stderr


@pytest.mark.slow
def test_a_broken_training_is_judged_by_its_own_model(
    session_run, runs_of, project, pipeline_with
):
    """Even if a report of another model is where its own should be."""

    def fail(*_):
        raise ValueError("broken")

    session_run(runtime_params={"model_options": {"C": 100}}, **DECIDE)
    report = project / "data" / "08_reporting" / "metrics.json"
    of_the_good = report.read_text()
    broken = pipeline_with("promote_model", fail)
    with pytest.raises(ValueError, match="broken"):
        given = {"model_options": {"C": 0.0001}}
        session_run(broken, runtime_params=given, **DECIDE)
    report.write_text(of_the_good)
    session_run(from_nodes=["promote_model"])
    good, broken, decided = runs_of()
    assert (good.metrics["accuracy"], broken.status) == (1.0, "FAILED")
    assert decided.tags["registry.decision"] == "challenger"
    assert float(decided.tags["registry.score"]) < 0.9
    assert decided.tags["data.model_uri.run_id"] == broken.id


@pytest.mark.slow
def test_a_champion_that_knows_the_test_rows_is_judged_on_others(
    session_run, runs_of, pipeline_with, module
):
    schema = module("schema")

    def learn_by_heart(train, _):
        model = make_pipeline(KNeighborsClassifier(n_neighbors=1))
        return model.fit(train[schema.FEATURES], train[schema.TARGET])

    session_run(pipeline_with("train_model", learn_by_heart), **DECIDE)
    given = {"split_options": {"random_state": 1}}
    session_run(runtime_params=given, **DECIDE)
    _, second = runs_of()
    said = second.tags["registry.against"]
    assert re.search(
        r"of version 1, on \d+ rows that neither was trained on"
        r"|of version 1, which was trained on \d+ of these 30 rows",
        said,
    )


def test_a_metric_that_is_no_number_decides_nothing(
    trained_project, session_run, module, monkeypatch
):
    nodes = module("pipelines.data_science.nodes")
    monkeypatch.setattr(nodes, "measure", lambda *_: {"accuracy": float("nan")})
    with pytest.raises(ClickException, match="The new model's accuracy is nan"):
        session_run(folder=trained_project, from_nodes=["report_accuracy"])
    failed = recorded(trained_project)[1]
    assert failed.status == "FAILED"
    assert failed.tags["failure.node"] == "promote_model"


def test_a_file_that_changes_while_it_is_read_is_noticed(
    session_run, runs_of, project, module, monkeypatch, messages
):
    schema = module("schema")
    validate = schema.validate_iris

    def append_and_validate(table):
        with (project / IRIS).open("a") as file:
            file.write(ROW)
        return validate(table)

    monkeypatch.setattr(schema, "validate_iris", append_and_validate)
    session_run(pipeline_names=["data_engineering"])
    assert "iris.csv has changed while the run read it" in "\n".join(messages)
    (one,) = runs_of()
    said = "unknown: the file changed while the run read it"
    assert one.tags["data.iris.digest"] == said
