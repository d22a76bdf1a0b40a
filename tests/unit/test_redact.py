"""``tracking.redact``: secrets are hidden wherever they stand; the rest stays."""

import os
import sys
import threading
from dataclasses import dataclass

import pytest

TELEMETRY = "_MLFLOW_TELEMETRY_SESSION_ID"
SECRET = "V01"  # what must never be seen


def test_both_sides_of_a_change_and_what_is_around_it_are_hidden(tracking):
    changes = (
        "diff --git a/conf/a.yml b/conf/a.yml\n--- a/conf/a.yml\n+++ b/conf/a.yml\n"
        "@@ -1,4 +1,4 @@ token: V01\n x: 1\n-password: V01old\n+password: V01new\n"
        " api_key: V01\n+y: 2\n\\ No newline at end of file\n"
        "diff --git a/code.py b/code.py\n@@ -1 +1 @@\n-token = 1\n+token = f(x)\n"
    )
    assert tracking.redact.diff(changes) == (
        "diff --git a/conf/a.yml b/conf/a.yml\n--- a/conf/a.yml\n+++ b/conf/a.yml\n"
        "@@ -1,4 +1,4 @@ token: ***\n x: 1\n-password: ***\n+password: ***\n"
        " api_key: ***\n+y: 2\n\\ No newline at end of file\n"
        "diff --git a/code.py b/code.py\n@@ -1 +1 @@\n-token = 1\n+token = f(x)\n"
    )


@dataclass
class Service:
    """Typed parameters."""

    url: str
    api_key: str
    retries: int


def test_parameters_keep_their_shape(tracking):
    given = {
        "services": [Service("https://me:V01@host", "V01", 3), {"dbPassword": "V01"}],
        "secrets": {"one": 1, "two": ["V01"], "on": True},
        "password": None,
        "stripe_key": 5,
        "size": (1, 2),
    }
    assert tracking.redact.mask_values(given) == {
        "services": [
            {"url": "https://***@host", "api_key": "***", "retries": 3},
            {"dbPassword": "***"},
        ],
        "secrets": {"one": "***", "two": ["***"], "on": True},
        "password": None,
        "stripe_key": 5,
        "size": (1, 2),
    }


def test_a_traceback_keeps_its_code_and_hides_its_message(tracking):
    text = (
        "Traceback (most recent call last):\n"
        '  File "/x/nodes.py", line 3, in train\n    token = tokenizer(x, token=y)\n'
        '    login(password="V01")\n'
        "ValueError: no answer with password=V01 from http://me:V01@host\n"
    )
    hidden = tracking.redact.traceback(text)
    assert SECRET not in hidden and "    token = tokenizer(x, token=y)\n" in hidden


def test_variables_of_secret_names_are_hidden_by_their_values(tracking, monkeypatch):
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "V01-long-enough")
    monkeypatch.setenv("SHORT_PASSWORD", "iris")
    assert tracking.redact.code("x = 'V01-long-enough' or iris") == "x = '***' or iris"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "SSH_ASKPASS", "APP_SECRET"])
def test_a_path_in_a_variable_is_no_secret(tracking, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, str(tmp_path))
    address = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.redact.mask(address) == address


def test_a_user_is_hidden_with_the_password_that_is_known(tracking, monkeypatch):
    address = "postgresql+psycopg2://aurelia:swordfish@host/db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking.redact.mask(address) == "postgresql+psycopg2://***@host/db"
    assert tracking.redact.mask(tracking.redact.mask(address)) == tracking.redact.mask(
        address
    )


URI = "MLFLOW_TRACKING_URI"


MASKED = {
    "http://me:secret@host/api": "http://***@host/api",
    "http://me:sec/ret@host:5000 said no": "http://***@host:5000 said no",
    "postgresql+psycopg2://u:p@ss@h/db": "postgresql+psycopg2://***@h/db",
    "mysql://host/db?user=me&password=secret": "mysql://host/db?user=***&password=***",
    "'sqlite:///a b.db' and nothing else": "'sqlite:///a b.db' and nothing else",
    "token=abc, api_key=def": "token=***, api_key=***",
}


@pytest.mark.parametrize("text, shown", MASKED.items())
def test_credentials_of_addresses_are_masked(tracking, text, shown):
    assert tracking.redact.mask(text) == shown


def test_credentials_of_variables_are_masked_wherever_they_stand(tracking):
    os.environ["MLFLOW_TRACKING_PASSWORD"] = "hunter2"
    os.environ["MLFLOW_TRACKING_TOKEN"] = "a+b(c"
    os.environ[URI] = "http://me:p%40ss@host"
    said = tracking.redact.mask(
        "hunter2 in 'a+b(c', p@ss and p%40ss, but not in hunter22"
    )
    assert said == "*** in '***', *** and ***, but not in hunter22"


def test_the_first_line_of_an_error_has_no_credentials(tracking):
    error = ValueError("no answer from http://me:secret@host\nand much more")
    assert tracking.redact.first_line(error) == "no answer from http://***@host"
    assert tracking.redact.first_line(ValueError()) == "ValueError"


@pytest.fixture
def telemetry(monkeypatch):
    """Set and remove a variable again and again in a thread, as MLflow does once."""
    monkeypatch.setenv(TELEMETRY, "1")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            os.environ[TELEMETRY] = "1"
            os.environ.pop(TELEMETRY)
        os.environ[TELEMETRY] = "1"

    thread = threading.Thread(target=change)
    thread.start()
    yield
    done.set()
    thread.join()
    sys.setswitchinterval(before)


def test_variables_that_a_thread_removes_stop_nothing(tracking, telemetry, tmp_path):
    for _ in range(300):
        assert tracking.redact.mask("nothing to hide") == "nothing to hide"
    assert tracking.code.git(tmp_path, "--version").startswith(b"git version")
