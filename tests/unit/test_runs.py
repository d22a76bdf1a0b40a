"""``tracking.commands.runs``: ``kedro runs`` and its ``diff`` on a real store."""

import json
import os
import socket
from datetime import datetime

import mlflow
import pytest
from mlflow import MlflowClient
from runs import PACKAGE, recorded, run

NOT_COMPARED = (
    "Not compared: the contents of models and artifacts (`kedro replay` compares "
    "models), metrics but for their last values, times, and what is only in conf/local."
)


@pytest.fixture
def project(copy_of_three_runs):
    """Return a project with three runs, which a test may change."""
    return copy_of_three_runs


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
