"""``tracking.commands.reproduce``: options, packages and the run itself."""

import json
import os
import signal
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from runs import environment_file, recorded, tagged

DATA = "data/01_raw/iris.csv"
# What a pipeline's process leaves on the run that it was given.
STARTED = """
import json, os, sqlite3, sys
file = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
with sqlite3.connect(file) as db:
    for name, text in ("kedro.run_id", "now"), ("env", json.dumps(dict(os.environ))):
        db.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                   [name, text, os.environ["MLFLOW_RUN_ID"]])
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def project(trained_project) -> Path:
    """Return a project in git with one training; MLflow is led to its store."""
    return trained_project


def options_of(found, **changes) -> dict:
    """Have a run record other options; return them with its inputs."""
    file = environment_file(found, "run.json")
    about = json.loads(file.read_text())
    about["run"] |= changes
    file.write_text(json.dumps(about))
    return about


def test_the_recorded_options_and_inputs_are_read(tracking, old_run):
    about = tracking.commands.reproduce.recorded_options(old_run, trust=False)
    assert about["run"] == {"env": "local"}
    assert about["inputs"].keys() == {DATA}


def test_a_run_without_options_cannot_be_replayed(
    tracking, command_error, old_run, project
):
    environment_file(old_run, "run.json").unlink()
    with mlflow.start_run() as foreign:
        pass
    for found in (old_run, foreign):
        said = f"Run {found.info.run_id} does not say how to repeat it: it was not made"
        with pytest.raises(command_error, match=said):
            tracking.commands.reproduce.recorded_options(found, trust=True)


def test_a_received_run_takes_trust(tracking, command_error, old_run):
    received = tagged(old_run.info.run_id, **{"origin.run_id": "0" * 32})
    with pytest.raises(
        command_error, match="was received.*in environment, then use --trust"
    ):
        tracking.commands.reproduce.recorded_options(received, trust=False)
    assert tracking.commands.reproduce.recorded_options(received, trust=True)["inputs"]


def test_a_run_with_a_secret_parameter_cannot_be_replayed(
    tracking, command_error, old_run
):
    written = json.dumps({"run": {"params": {"token": "***"}}, "inputs": {}})
    environment_file(old_run, "run.json").write_text(written)
    with pytest.raises(
        command_error, match="had a secret parameter, which was not recorded"
    ):
        tracking.commands.reproduce.recorded_options(old_run, trust=True)


@pytest.mark.parametrize("place", ["/elsewhere/conf", "s3://bucket/conf"])
def test_a_folder_of_configuration_elsewhere_cannot_be_replayed(
    tracking, command_error, old_run, place
):
    options_of(old_run, conf_source=place)
    with pytest.raises(command_error) as caught:
        tracking.commands.reproduce.recorded_options(old_run, trust=False)
    assert caught.value.message == (
        f"Run {old_run.info.run_id} took its configuration from {place}, "
        "which is not recorded."
    )


def test_an_archive_of_configuration_is_an_input(tracking, old_run):
    about = options_of(old_run, conf_source="/elsewhere/conf.tar.gz")
    about["inputs"]["/elsewhere/conf.tar.gz"] = "0" * 32
    environment_file(old_run, "run.json").write_text(json.dumps(about))
    assert tracking.commands.reproduce.recorded_options(old_run, trust=False) == about


def test_unknown_arguments_of_a_runner_are_told(tracking, old_run, capsys):
    found = tagged(old_run.info.run_id, **{"kedro.runner_params": "not recorded"})
    tracking.commands.reproduce.recorded_options(found, trust=False)
    said = "The arguments of its runner are not recorded: it has none now.\n"
    assert capsys.readouterr().out == said


def test_the_run_that_made_a_lost_input_is_named(tracking, command_error, capsys):
    inputs = {"a.csv": "1" * 32, "b.csv": "2" * 32}
    about = {"inputs": inputs, "made_by": {"a.csv": "f" * 32}}
    made = tracking.commands.reproduce.Copy
    copy = made(None, about, Path("."), inputs | {"a.csv": "-"})
    assert copy.find_makers() == {"a.csv": "f" * 32}
    said = f"a.csv is not here as it was: run {'f' * 32}, which made it, is replayed.\n"
    assert capsys.readouterr().out == said
    with pytest.raises(command_error, match="An input is not here as it was: b.csv"):
        copy._replace(data=inputs | {"b.csv": "-"}).find_makers()


def test_packages_from_a_folder_cannot_be_had_again(
    tracking, command_error, old_run, tmp_path
):
    line = "# mine==1.0 came from a folder or file of that machine\n"
    environment_file(old_run, "packages.txt").write_text(f"# Python 3.11.1\n{line}")
    with pytest.raises(command_error) as caught:
        tracking.commands.reproduce.recorded_environment(old_run, tmp_path)
    assert caught.value.message == (
        "The packages cannot be had again: "
        "mine==1.0 came from a folder or file of that machine."
    )


def test_an_environment_takes_uv(tracking, command_error, old_run, tmp_path):
    os.environ["PATH"] = str(tmp_path)
    with pytest.raises(
        command_error, match="--env-manager=uv needs uv: `pip install uv`"
    ):
        tracking.commands.reproduce.recorded_environment(old_run, tmp_path)


@pytest.fixture
def with_uv(tmp_path) -> None:
    """Have uv on the path, without the internet."""
    bin_ = str(Path(sys.executable).parent)
    os.environ |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    os.environ["PATH"] = bin_ + os.pathsep + os.environ["PATH"]


@pytest.mark.slow
def test_an_interpreter_that_cannot_be_had_is_told(
    tracking, command_error, old_run, tmp_path, with_uv
):
    found = tagged(old_run.info.run_id, **{"python.version": "3.99.0"})
    with pytest.raises(command_error, match=r"The packages cannot be had: .*3\.99\.0"):
        tracking.commands.reproduce.recorded_environment(found, tmp_path)


def test_an_environment_holds_the_recorded_packages_only(
    tracking, old_run, tmp_path, with_uv
):
    environment_file(old_run, "packages.txt").write_text("# Python 3\n")
    python = Path(tracking.commands.reproduce.recorded_environment(old_run, tmp_path))
    assert python.is_file() and python.is_relative_to(tmp_path)
    assert not list(tmp_path.rglob("*.dist-info"))


@pytest.mark.parametrize("code, status", [(0, "FINISHED"), (1, "FAILED")])
def test_the_pipeline_runs_in_a_run_of_this_store(
    tracking, old_run, project, tmp_path, code, status
):
    os.environ |= {"PYTHONPATH": "/x", "KEDRO_MLFLOW_RUN_ID": "x"}
    used = {"model.uri": "models:/a@champion", "model.id": "m-1", "other": "x"}
    then = tagged(old_run.info.run_id, **used)
    command = [sys.executable, "-S", "-c", STARTED, str(code)]
    new = tracking.commands.reproduce.run_again(
        then, command, tmp_path, project, {"replay.of": old_run.info.run_id}
    )
    assert new.info.status == status
    assert new.info.experiment_id == old_run.info.experiment_id
    tags = new.data.tags
    assert tags["replay.of"] == old_run.info.run_id
    assert (tags["model.uri"], tags["model.id"]) == ("models:/a@champion", "m-1")
    assert "other" not in tags
    env = json.loads(tags["env"])
    assert env["MLFLOW_EXPERIMENT_ID"] == old_run.info.experiment_id
    assert not {"PYTHONPATH", "KEDRO_MLFLOW_RUN_ID"} & env.keys()
    assert list((project / ".runs").glob("*.db")) == []


def test_a_pipeline_that_does_not_start_leaves_no_run(
    tracking, command_error, old_run, project, tmp_path
):
    with pytest.raises(command_error, match="The pipeline did not start"):
        tracking.commands.reproduce.run_again(
            old_run, ["git", "--version"], tmp_path, project, {}
        )
    found = MlflowClient().search_runs([old_run.info.experiment_id])
    assert [run.info.run_id for run in found] == [old_run.info.run_id]


def test_a_replay_that_is_terminated_ends_its_run_as_killed(
    tracking, old_run, project, tmp_path, module
):
    signal.signal(signal.SIGTERM, module("tracking.active_run").exit_on_sigterm)
    stop = "kill -TERM $PPID; exec sleep 60"
    with pytest.raises(SystemExit, match="143"):
        tracking.commands.reproduce.run_again(
            old_run, ["sh", "-c", stop], tmp_path, project, {}
        )
    assert [run.status for run in recorded(project)] == ["FINISHED", "KILLED"]
    assert list((project / ".runs").glob("*.db")) == []


def test_a_replay_whose_interpreter_is_gone_ends_its_run_as_killed(
    tracking, old_run, project, tmp_path
):
    with pytest.raises(FileNotFoundError):
        tracking.commands.reproduce.run_again(
            old_run, [str(tmp_path / "none")], tmp_path, project, {}
        )
    assert [run.status for run in recorded(project)] == ["FINISHED", "KILLED"]
