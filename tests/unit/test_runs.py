"""``tracking.commands.runs``: ``kedro runs`` and its ``diff`` on a real store."""

import os
import socket
import sqlite3

import mlflow
import pytest
from mlflow import MlflowClient
from runs import PACKAGE, REPO, recorded, run

PART = {"pipeline_names": ["data_engineering"]}


@pytest.fixture(scope="module")
def three_runs(trained, copy_store, session_in, tmp_path_factory):
    """Return a project in git with three runs; tests must not change it.

    A training, the first of its pipelines, and that one again with another parameter
    and a new file in the code.
    """
    folder = copy_store(trained, tmp_path_factory.mktemp("three") / REPO)
    session_in(folder, **PART)
    (folder / "src" / "new.py").write_text("new = 1\n")
    session_in(folder, runtime_params={"split_options": {"test_size": 0.3}}, **PART)
    return folder


@pytest.fixture
def project(three_runs, copy_store, tmp_path):
    """Return a copy of the project with three runs; MLflow is led to its store."""
    folder = copy_store(three_runs, tmp_path / REPO)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    return folder


@pytest.fixture
def tracking(tracking):
    """Return the module under test."""
    return tracking


@pytest.fixture
def kedro(kedro_in_process, three_runs):
    """Return a function that calls a command; by default in the shared project."""

    def call(*words: str, folder=three_runs, **env: str):
        return kedro_in_process(*words, folder=folder, **env)

    return call


def test_the_last_runs_are_shown(three_runs, kedro):
    trained, clean, dirty = recorded(three_runs)
    commit = run("git", "rev-parse", "--short=7", "HEAD", cwd=three_runs).stdout.strip()
    done = kedro("runs")
    header, *lines = done.output.splitlines()
    assert done.exit_code == 0
    assert header.split() == "run started pipeline status accuracy commit".split()
    shown = [line.split() for line in lines]
    assert [words[0] for words in shown] == [r.id[:8] for r in (dirty, clean, trained)]
    accuracy = f"{trained.metrics['accuracy']:.4g}"
    assert [words[3:] for words in shown] == [
        ["data_engineering", "FINISHED", commit, "dirty"],
        ["data_engineering", "FINISHED", commit],
        ["__default__", "FINISHED", accuracy, commit],
    ]
    assert not any(line.endswith(" ") for line in (header, *lines))


def test_as_many_runs_are_shown_as_are_asked_for(three_runs, kedro):
    *_, last = recorded(three_runs)
    header, line = kedro("runs", "--last=1").output.splitlines()
    assert line.startswith(last.id[:8])
    assert header.split()[4] == "metric"  # no run of these was judged


def test_runs_of_others_and_half_received_ones_are_not_shown(project, kedro):
    first, *_ = recorded(project)
    client = MlflowClient()
    client.set_tag(first.id, "origin.incomplete", "0" * 32)
    os.environ["MLFLOW_EXPERIMENT_NAME"] = PACKAGE
    with mlflow.start_run():
        pass
    assert len(kedro("runs", folder=project).output.splitlines()) == 3


def test_a_store_without_runs_says_so(project, kedro, empty_store):
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    done = kedro("runs", folder=project)
    assert (done.exit_code, done.output) == (
        0,
        "No runs yet: `kedro run` makes the first.\n",
    )


def test_what_is_asked_makes_no_store(project, kedro):
    (project / "mlflow.db").unlink()
    done = kedro("runs", folder=project)
    assert done.exit_code == 2
    assert f"No runs in {project / 'mlflow.db'} yet: `kedro run`" in done.stderr
    assert not (project / "mlflow.db").exists()


def test_a_store_that_does_not_answer_is_one_line(project, kedro):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_TRACKING_URI": url}
        done = kedro("runs", folder=project, **env)
    assert done.exit_code == 2
    assert "start or repair that store" in done.stderr.splitlines()[-1]


def test_the_environment_of_conf_is_an_option(project, kedro):
    other = project / "conf" / "other"
    other.mkdir()
    (other / "mlflow.yml").write_text("experiment_name: elsewhere\n")
    assert "No runs yet" in kedro("runs", "--env=other", folder=project).output
    done = kedro("runs", "diff", "a" * 32, "b" * 32, "-e", "other", folder=project)
    assert "No run aaaa" in done.stderr


# What differs


def test_nothing_differs_between_a_run_and_itself(three_runs, kedro):
    one, *_ = recorded(three_runs)
    done = kedro("runs", "diff", one.id, one.id[:6])
    assert (done.exit_code, done.output) == (0, "equal\n")


def test_what_differs_is_shown_and_nothing_else(three_runs, kedro):
    _, one, other = recorded(three_runs)
    done = kedro("runs", "diff", one.id, other.id)
    assert done.exit_code == 1
    header, *lines = (line.split() for line in done.output.splitlines())
    assert header == [one.id[:8], other.id[:8]]
    digest = other.tags["git.diff"]
    assert lines == [
        ["parameters", "split_options.test_size", "0.2", "0.3"],
        ["code", "diff", "none", digest],
    ]


def test_metrics_data_and_pipelines_differ_too(three_runs, kedro):
    trained, other, _ = recorded(three_runs)
    done = kedro("runs", "diff", trained.id, other.id)
    lines = [line.split() for line in done.output.splitlines()[1:]]
    accuracy = repr(trained.metrics["accuracy"])
    assert ["run", "pipeline", "__default__", "data_engineering"] in lines
    assert ["metrics", "accuracy", accuracy, "-"] in lines
    assert ["parameters", "model_options.C", "1.0", "-"] in lines


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
    done = kedro("runs", "diff", last.id, "nonsense", folder=project)
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
        match=f"Several runs begin with {twin[:8]} at",
    ):
        tracking.commands.project_runs.resolve_run(twin[:8])


# Parts


def test_what_steers_a_terminal_is_not_printed(tracking):
    assert (
        tracking.commands.project_runs.printable("a\x1b[2J\r\n\x7f\x9bü")
        == "a?[2J????ü"
    )
    assert tracking.commands.project_runs.CommandError("a\nb").message == "a?b"
    assert tracking.commands.project_runs.table([("\x1b[2J", "b")]) == "?[2J  b"


def test_long_values_are_cut_and_columns_aligned(tracking):
    shown = tracking.commands.project_runs.table(
        [("a", "b" * 41, "c"), ("aaa", "b" * 40, "")]
    )
    assert shown.splitlines() == [
        f"a    {'b' * 39}…  c",
        f"aaa  {'b' * 40}",
    ]


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
