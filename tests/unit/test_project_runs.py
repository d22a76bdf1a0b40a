"""``tracking.commands.project_runs``: runs are found, described and compared."""

import logging
import sqlite3
import sys

import mlflow
import pytest
from kedro.logging import RichHandler
from mlflow import MlflowClient
from runs import PACKAGE, recorded


@pytest.fixture
def project(copy_of_three_runs):
    """Return a project with three runs, which a test may change."""
    return copy_of_three_runs


@pytest.fixture
def kedro(kedro_in_process, project):
    """Return a function that calls a command in the project."""

    def call(*words: str):
        return kedro_in_process(*words, folder=project)

    return call


@pytest.fixture
def experiment(project) -> str:
    """Return the id of the project's experiment."""
    return MlflowClient().get_experiment_by_name(PACKAGE).experiment_id


def test_what_is_asked_makes_no_store(project, kedro):
    (project / "mlflow.db").unlink()
    done = kedro("runs")
    assert done.exit_code == 2
    assert f"No runs in {project / 'mlflow.db'} yet: `kedro run`" in done.stderr
    assert not (project / "mlflow.db").exists()


def test_kedros_log_goes_where_no_answer_is(three_runs, tracking, kedro):
    rich = RichHandler()
    plain = logging.StreamHandler(sys.stdout)
    root = logging.getLogger()
    for handler in (rich, plain):
        root.addHandler(handler)
    try:
        tracking.commands.project_runs.log_to_stderr()
        assert rich.console.file is sys.stderr and plain.stream is sys.stderr
    finally:
        for handler in (rich, plain):
            root.removeHandler(handler)
        rich.console.stderr = False


def test_a_run_that_cannot_be_found_is_named(tracking, project, kedro):
    one, other, last = recorded(project)
    MlflowClient().delete_run(one.id)
    MlflowClient().set_tag(other.id, "origin.incomplete", "0" * 32)
    for given, said in {
        "f" * 32: f"No run {'f' * 32} at sqlite",
        "nonsense": "No run nonsense at sqlite",
        last.id[:3]: f"No run {last.id[:3]}",  # too short to mean one
        "' OR '": "No run ' OR '",
        one.id: f"Run {one.id} was deleted: `mlflow runs restore --run-id {one.id}`",
        other.id: f"Run {other.id} is half received: receive its file again.",
    }.items():
        with pytest.raises(tracking.commands.project_runs.CommandError) as caught:
            tracking.commands.project_runs.resolve_run(given)
        assert said in caught.value.message
    done = kedro("runs", "diff", last.id, "nonsense")
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "No run nonsense at sqlite" in done.stderr


def test_several_runs_that_begin_alike_are_not_guessed_between(tracking, project):
    *_, last = recorded(project)
    twin = last.id[:8] + "0" * 24
    with sqlite3.connect(project / "mlflow.db") as db:
        only = "SELECT * FROM runs WHERE run_uuid = ?"
        db.execute(f"CREATE TEMP TABLE copy AS {only}", [last.id])
        db.execute("UPDATE copy SET run_uuid = ?", [twin])
        db.execute("INSERT INTO runs SELECT * FROM copy")
    assert tracking.commands.project_runs.resolve_run(twin).info.run_id == twin
    with pytest.raises(
        tracking.commands.project_runs.CommandError,
        match=f"Several runs match {twin[:8]} at",
    ):
        tracking.commands.project_runs.resolve_run(twin[:8])


def test_a_run_has_the_names_that_people_use(tracking, project, experiment):
    first, second, third = recorded(project)
    resolve = tracking.commands.project_runs.resolve_run

    def id_of(name: str) -> str:
        return resolve(name, experiment).info.run_id

    assert id_of(first.id) == id_of(first.id[:5]) == first.id
    assert id_of("last") == third.id
    MlflowClient().set_tag(third.id, "origin.incomplete", "0" * 32)
    assert id_of("last") == second.id
    for uri in (f"models:/{PACKAGE}@champion", f"models:/{PACKAGE}/1"):
        assert id_of(uri) == first.id
    made = mlflow.get_run(first.id).outputs.model_outputs[0].model_id
    assert id_of(f"models:/{made}") == id_of(f"runs:/{first.id}/model") == first.id
    MlflowClient().set_tag(second.id, "mlflow.runName", "it's \"small")
    assert "No run it's" in refusal(tracking, "it's \"small", experiment)
    MlflowClient().set_tag(second.id, "mlflow.runName", "it's small")
    assert id_of("it's small") == second.id
    MlflowClient().set_tag(second.id, "origin.run_id", "abc0" * 8)
    assert id_of("abc0") == second.id


def refusal(tracking, name: str, experiment: str) -> str:
    """Return the line that says why a name names no run."""
    with pytest.raises(tracking.commands.project_runs.CommandError) as caught:
        tracking.commands.project_runs.resolve_run(name, experiment)
    return caught.value.message


def test_the_name_of_two_runs_names_neither(tracking, project, experiment):
    one, other, _ = recorded(project)
    for run_id in (one.id, other.id):
        MlflowClient().set_tag(run_id, "mlflow.runName", "small")
    said = refusal(tracking, "small", experiment)
    assert said.startswith("Several runs match small at sqlite")
    assert one.id in said and other.id in said


def test_an_unknown_name_gets_the_nearest(tracking, project, experiment):
    one, *_ = recorded(project)
    MlflowClient().set_tag(one.id, "mlflow.runName", "bold baseline")
    for given, near in {
        "bold-baseline": "bold baseline",
        f"models:/{PACKAGE}@champoin": f"models:/{PACKAGE}@champion",
        f"models:/{PACKAGE}/7": f"models:/{PACKAGE}/1",
        "lst": "last",
        one.id[:7] + ("0" if one.id[7] != "0" else "1"): one.id[:8],
    }.items():
        said = refusal(tracking, given, experiment)
        assert said.startswith(f"No run {given} at sqlite") and said.endswith("?")
        assert f" {near}" in said
    said = refusal(tracking, "§§§", experiment)
    assert said.endswith(": `kedro runs` lists the last.")


def test_what_steers_a_terminal_is_not_printed(tracking):
    assert (
        tracking.commands.project_runs.printable("a\x1b[2J\r\n\x7f\x9bü")
        == "a?[2J????ü"
    )
    assert tracking.commands.project_runs.CommandError("a\nb").message == "a?b"


def test_packages_are_told_by_name(tracking):
    text = """\
# Python 3.12.1
a==1.0
b @ git+https://host/b@abc
# c==2 came from a folder or file of that machine
nonsense
"""
    assert tracking.commands.project_runs.parse_packages(text) == {
        "Python": "3.12.1",
        "a": "1.0",
        "b": "git+https://host/b@abc",
        "c": "2 came from a folder or file of that machine",
    }


@pytest.mark.parametrize(
    "tags, code",
    [
        ({}, {}),
        ({"git.dirty": "true"}, {}),
        ({"mlflow.source.git.commit": "c"}, {"commit": "c", "diff": "none"}),
        (
            {"mlflow.source.git.commit": "c", "git.dirty": "true", "git.diff": "d"},
            {"commit": "c", "diff": "d"},
        ),
        (
            {"mlflow.source.git.commit": "c", "git.dirty": "true"},
            {"commit": "c", "diff": "?"},
        ),
    ],
)
def test_the_code_of_a_run(tracking, tags, code):
    assert tracking.commands.project_runs.code_summary(tags) == code


def test_an_artifact_that_is_missing_is_empty(tracking, project):
    one, *_ = recorded(project)
    found = tracking.commands.project_runs.resolve_run(one.id)
    assert tracking.commands.project_runs.read_artifact(
        found, "packages.txt"
    ).startswith(b"# Python 3.")
    assert tracking.commands.project_runs.read_artifact(found, "code.diff") == b""
    with mlflow.start_run() as foreign:
        pass
    assert tracking.commands.project_runs.read_artifact(foreign, "run.json") == b""
    known = tracking.commands.project_runs.run_summary(
        mlflow.get_run(foreign.info.run_id)
    )
    assert known["run"] == {"status": "FINISHED", "pipeline": "?", "env": "?"}
    assert known["packages"] == known["code"] == {}


def test_facts_of_a_run(tracking, project):
    one, *_ = recorded(project)
    known = tracking.commands.project_runs.run_summary(
        tracking.commands.project_runs.resolve_run(one.id)
    )
    assert known["run"] == {
        "status": "FINISHED",
        "pipeline": "__default__",
        "env": "local",
    }
    assert known["parameters"] == one.params
    assert known["metrics"]["accuracy"] == repr(one.metrics["accuracy"])
    assert list(known["data"]) == ["iris"] and len(known["data"]["iris"]) == 32
    assert known["packages"]["mlflow"] == mlflow.__version__
    assert known["code"]["diff"] == "none"
