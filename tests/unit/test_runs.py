"""``tracking.commands.runs``: ``kedro runs`` and its ``diff`` on a real store."""

import json
import logging
import os
import socket
import sqlite3
import sys
from datetime import datetime

import mlflow
import pytest
from kedro.logging import RichHandler
from mlflow import MlflowClient
from runs import PACKAGE, REPO, recorded, run

NOT_COMPARED = (
    "Not compared: the contents of models and artifacts (`kedro replay` compares "
    "models), metrics but for their last values, times, and what is only in conf/local."
)
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
    assert (done.exit_code, done.output) == (0, f"equal\n\n{NOT_COMPARED}\n")


def test_what_differs_is_shown_and_nothing_else(three_runs, kedro):
    _, one, other = recorded(three_runs)
    done = kedro("runs", "diff", one.id, other.id)
    assert done.exit_code == 1
    shown, _, said = done.output.partition("\n\n")
    header, *lines = (line.split() for line in shown.splitlines())
    assert said == f"{NOT_COMPARED}\n"
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
        match=f"Several runs match {twin[:8]} at",
    ):
        tracking.commands.project_runs.resolve_run(twin[:8])


# Names of runs


@pytest.fixture
def experiment(project) -> str:
    """Return the id of the project's experiment."""
    return MlflowClient().get_experiment_by_name(PACKAGE).experiment_id


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


# Formats and filters


def listed(done) -> list[dict]:
    """Return the runs that a command lists as JSON."""
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_runs_are_listed_as_json(three_runs, kedro):
    *_, dirty = found = recorded(three_runs)
    shown = listed(kedro("runs", "--format=json"))
    assert [run["run_id"] for run in shown] == [run.id for run in reversed(found)]
    assert shown[0] == {
        "run_id": dirty.id,
        "name": dirty.tags["mlflow.runName"],
        "started": shown[0]["started"],
        "pipeline": "data_engineering",
        "status": "FINISHED",
        "metrics": {},
        "parameters": dirty.params,
        "commit": run("git", "rev-parse", "HEAD", cwd=three_runs).stdout.strip(),
        "dirty": True,
    }
    started = datetime.fromisoformat(shown[0]["started"])
    assert started.timestamp() * 1e3 == mlflow_start(three_runs, dirty.id)
    assert shown[-1]["metrics"] == found[0].metrics


def mlflow_start(folder, run_id: str) -> int:
    """Return when a run started, in milliseconds, as MLflow says it."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.get_run(run_id).info.start_time


def test_runs_are_listed_as_markdown(three_runs, kedro):
    *_, last = recorded(three_runs)
    done = kedro("runs", "--format=md", "--last=1", "--param=split_options.test_size")
    header, rule, line = done.stdout.splitlines()
    assert header.startswith("| run | started | pipeline | status | metric | split_opt")
    assert rule == "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert line.startswith(f"| `{last.id[:8]}` | `20")
    assert "| `data_engineering` | `FINISHED` |  | `0.3` | `" in line
    assert line.endswith("| `dirty` |")


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--pipeline=data_engineering"], [2, 1]),
        (["--pipeline=__default__"], [0]),
        (["--pipeline=it's"], []),
        (["--status=finished"], [2, 1, 0]),
        (["--status=FAILED"], []),
        (["--since=1h"], [2, 1, 0]),
        (["--since=2026-01-01"], [2, 1, 0]),
        (["--since=2999-01-01 10:00"], []),
        (["--filter=metrics.accuracy > 0.1"], [0]),
        (["--filter=params.`split_options.test_size` = '0.3'", "--since=1d"], [2]),
    ],
)
def test_runs_are_filtered(three_runs, kedro, words, expected):
    ids = [run.id for run in recorded(three_runs)]
    shown = listed(kedro("runs", "--format=json", *words))
    assert [run["run_id"] for run in shown] == [ids[number] for number in expected]
    if not expected:
        assert kedro("runs", *words).stdout == "No run is like this.\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--since=yesterday"], "'yesterday' is no date and no time: 2026-11-24, 12h"),
        (["--filter=nonsense"], "Invalid"),
        (["--status=good"], "'good' is not one of"),
        (["--format=xml"], "'xml' is not one of"),
        (["diff", "abcd"], "Give two runs, or more."),
    ],
)
def test_a_mistake_is_one_line(kedro, words, said):
    done = kedro("runs", *words)
    assert done.exit_code == 2 and done.stdout == ""
    assert said in done.stderr.splitlines()[-1]


def test_columns_are_chosen(three_runs, kedro):
    trained, *_ = recorded(three_runs)
    words = ("--metric=log_loss", "--metric=accuracy", "--param=model_options.C")
    header, *_, line = kedro("runs", *words).stdout.splitlines()
    chosen = ["log_loss", "accuracy", "model_options.C"]
    assert header.split()[4:] == [*chosen, "commit"]
    values = [f"{trained.metrics[name]:.4g}" for name in chosen[:2]]
    assert line.split()[5:8] == [*values, "1.0"]


def test_several_runs_are_compared(three_runs, kedro):
    trained, one, other = recorded(three_runs)
    done = kedro("runs", "diff", trained.id, one.id, "last", "--format=json")
    assert done.exit_code == 1
    about = json.loads(done.stdout)
    assert about["runs"] == [trained.id, one.id, other.id]
    assert about["not_compared"] == [NOT_COMPARED]
    found = {(d["section"], d["name"]): d["values"] for d in about["differences"]}
    assert found["parameters", "split_options.test_size"] == ["0.2", "0.2", "0.3"]
    assert found["metrics", "accuracy"] == [repr(trained.metrics["accuracy"]), "-", "-"]
    shown = kedro("runs", "diff", trained.id, one.id, "last", "--format=md").stdout
    ids = " | ".join(run.id[:8] for run in (trained, one, other))
    assert shown.startswith(f"|  |  | {ids} |\n| --- | --- | --- | --- | --- |\n")
    assert (
        "| `parameters` | `split_options.test_size` | `0.2` | `0.2` | `0.3` |" in shown
    )
    assert shown.endswith(f" |\n\n{NOT_COMPARED}\n")


def test_what_a_run_has_not_recorded_is_said(project, kedro):
    one, *_ = recorded(project)
    with mlflow.start_run(experiment_id=mlflow.get_run(one.id).info.experiment_id):
        mlflow.log_metric("accuracy", float("nan"))
    *_, foreign = recorded(project)
    done = kedro("runs", "diff", one.id, foreign.id, folder=project)
    last = done.stdout.splitlines()[-1]
    assert last == "Not every run has recorded its code and packages."


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


# Parts


def test_what_steers_a_terminal_is_not_printed(tracking):
    assert (
        tracking.commands.project_runs.printable("a\x1b[2J\r\n\x7f\x9bü")
        == "a?[2J????ü"
    )
    assert tracking.commands.project_runs.CommandError("a\nb").message == "a?b"
    assert tracking.commands.formats.table([("\x1b[2J", "b")]) == "?[2J  b"


def test_long_values_are_cut_and_columns_aligned(tracking):
    shown = tracking.commands.formats.table(
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


def test_markdown_takes_values_as_they_are(tracking):
    shown = tracking.commands.formats.markdown([("a", "b"), ("x|y", "`<b>`\n")])
    assert shown.splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| `x\\|y` | `'<b>'?` |",
    ]


def test_json_has_no_number_that_is_none(tracking):
    text = tracking.commands.formats.to_json({"a": [float("nan"), 1.5], "b": "ü"})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": ["nan", 1.5], "b": "ü"}
