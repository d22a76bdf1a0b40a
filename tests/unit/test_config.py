"""``tracking.config``: where runs go."""

import os
import re
import sqlite3

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from runs import PACKAGE

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
URI = "MLFLOW_TRACKING_URI"


def test_credentials_are_taken_out_of_the_address(tracking, tmp_path):
    os.environ[URI] = "https://me:p%2Fss@host:5000/path"
    tracking.config.configure({}, tmp_path)
    assert os.environ[URI] == "https://host:5000/path"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p/ss"
    assert tracking.environment.user_env(URI) == "https://host:5000/path"
    tracking.config.configure({"tracking_uri": "sqlite:///other.db"}, tmp_path)
    assert os.environ[URI] == "https://host:5000/path"


def test_credentials_of_variables_win_over_those_of_the_address(tracking, tmp_path):
    os.environ["MLFLOW_TRACKING_USERNAME"] = "chosen"
    tracking.config.configure({"tracking_uri": "http://me@host"}, tmp_path)
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "chosen"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ""
    assert os.environ[URI] == "http://host"
    assert (
        tracking.environment.user_env(URI) is None
    )  # mlflow.yml may name another the next time


@pytest.mark.parametrize(
    "config, expected",
    [
        ({}, "sqlite:///{project}/mlflow.db"),
        ({"tracking_uri": "sqlite:///of/mine.db"}, "sqlite:///{project}/of/mine.db"),
        ({"tracking_uri": "sqlite:////of/all.db"}, "sqlite:////of/all.db"),
        ({"tracking_uri": "http://host:5000"}, "http://host:5000"),
    ],
)
def test_the_address_is_that_of_mlflow_yml(config, expected, tracking, tmp_path):
    tracking.config.configure(config, tmp_path)
    assert os.environ[URI] == expected.format(project=tmp_path)
    assert tracking.environment.user_env(URI) is None


@pytest.mark.parametrize("quiet", [None, "false"])
def test_mlflow_prints_no_address_of_its_own(tracking, tmp_path, quiet):
    if quiet:
        os.environ[tracking.config.QUIET] = quiet
    tracking.config.configure({"tracking_uri": "http://host"}, tmp_path)
    assert os.environ[tracking.config.QUIET] == (quiet or "true")


@pytest.mark.parametrize("sourced", [False, True], ids=["", "after config.sh"])
def test_the_first_contact_waits_ten_seconds_twice(tracking, project, sourced):
    os.environ[TIMEOUT] = "60"
    if sourced:  # set by the script, not by the user
        os.environ[f"KEDRO_{TIMEOUT}"] = "60"
    tracking.config.configure({}, project)
    with tracking.client.verify_store(project):
        waits = os.environ[TIMEOUT], os.environ[RETRIES]
    assert waits == ("10" if sourced else "60", "1")
    assert os.environ[TIMEOUT] == ("20" if sourced else "60")


def test_a_project_without_a_store_gets_one(tracking, tmp_path):
    tracking.config.configure({"tracking_uri": "sqlite:///folder/new.db"}, tmp_path)
    with tracking.client.verify_store(tmp_path):
        sqlite3.connect(tmp_path / "folder" / "new.db").close()
    assert (tmp_path / "folder" / "new.db.lock").exists()


def test_the_experiment_is_made_where_it_is_missing(tracking, client, project):
    made = client.get_experiment(tracking.config.experiment_id({}, project))
    assert made.name == PACKAGE
    assert made.artifact_location == str(project / "mlruns" / PACKAGE)
    assert tracking.config.experiment_id({}, project) == made.experiment_id
    config = {"experiment_name": "of mlflow.yml", "artifact_location": "/some/where"}
    made = client.get_experiment(tracking.config.experiment_id(config, project))
    assert (made.name, made.artifact_location) == ("of mlflow.yml", "/some/where")
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "a/b c"
    made = client.get_experiment(tracking.config.experiment_id(config | {}, project))
    assert made.name == "a/b c"
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "d/e f"
    made = client.get_experiment(tracking.config.experiment_id({}, project))
    assert made.artifact_location == str(project / "mlruns" / "d_e_f")
    os.environ["MLFLOW_EXPERIMENT_ID"] = "0"
    assert tracking.config.experiment_id({}, project) == "0"


def test_an_experiment_that_was_deleted(tracking, client, project):
    number = tracking.config.experiment_id({}, project)
    client.delete_experiment(number)
    with pytest.raises(tracking.client.TrackingError) as raised:
        tracking.config.experiment_id({}, project)
    assert f"mlflow experiments restore -x {number}" in raised.value.message
    client.restore_experiment(number)
    assert tracking.config.experiment_id({}, project) == number


def test_another_process_makes_the_experiment_first(
    tracking, server, on_server, project
):
    other, made = mlflow.MlflowClient(server.database), []
    create = "POST experiments/create"
    server.break_next(create, lambda: made.append(other.create_experiment(PACKAGE)))
    assert tracking.config.experiment_id({}, project) == made[0]


def test_an_experiment_that_cannot_be_made(tracking, server, on_server, project):
    server.break_next("POST experiments/create", 400)
    with pytest.raises(MlflowException):
        tracking.config.experiment_id({}, project)


def test_a_configuration_without_mlflow_yml(tracking, project):
    from kedro.config import OmegaConfigLoader

    def read() -> dict:
        folders = {"base_env": "base", "default_run_env": "local"}
        loader = OmegaConfigLoader(str(project / "conf"), **folders)
        return tracking.config.read_config(loader)

    assert read()["tracking_uri"] == "sqlite:///mlflow.db"
    (project / "conf" / "base" / "mlflow.yml").unlink()
    assert read() == {}
    (project / "conf" / "local" / "mlflow.yml").write_text("tracking_uri: http://host")
    assert re.match("http", read()["tracking_uri"])
