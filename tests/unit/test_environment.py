"""``tracking.environment``: variables that the user has set, and ours."""

import os

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
URI = "MLFLOW_TRACKING_URI"


def test_the_callers_variables_win_and_ours_are_withdrawn(tracking, tmp_path):
    os.environ[URI], os.environ[TIMEOUT] = "sqlite:///chosen.db", "7"
    tracking.config.configure({"tracking_uri": "sqlite:///other.db"}, tmp_path)
    assert os.environ[URI] == "sqlite:///chosen.db"
    assert os.environ[TIMEOUT] == "7"
    assert os.environ[RETRIES] == tracking.client.RUNNING[RETRIES]
    tracking.environment.unset_env(TIMEOUT)
    tracking.environment.unset_env(RETRIES)
    assert os.environ[TIMEOUT] == "7" and RETRIES not in os.environ


def test_a_variable_is_ours_until_the_user_changes_it(tracking):
    tracking.environment.set_env("MLFLOW_X", "ours")
    assert tracking.environment.user_env("MLFLOW_X") is None
    tracking.environment.set_default("MLFLOW_X", "also ours")
    assert os.environ["MLFLOW_X"] == "also ours"
    os.environ["MLFLOW_X"] = "of the user"
    tracking.environment.set_default("MLFLOW_X", "ours")
    tracking.environment.unset_env("MLFLOW_X")
    assert tracking.environment.user_env("MLFLOW_X") == "of the user"
