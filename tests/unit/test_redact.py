"""``tracking.redact``: secrets are hidden wherever they stand; the rest stays."""

import os
import sys
import threading
from dataclasses import dataclass

import pytest

TELEMETRY = "_MLFLOW_TELEMETRY_SESSION_ID"
SECRET = "V01"  # what must never be seen
FORM = "V01a" + "b2" * 20
PEM = "-----BEGIN {0} KEY-----\nV01aaaaaaaaaaaaaaaaa\nV01=\n-----END {0} KEY-----\n"
SECRET_NAMES = """
    password passwd db_password dbPassword DB_PASS PWD db-pwd passphrase passcode secret
    client_secret clientSecret token API_TOKEN accessToken credential credentials
    Authorization Proxy-Authorization secret_key private_key openai_key openaiKey
    OPENAI_KEY APIKey apikey api-key api.key AWS_SECRET_ACCESS_KEY private_key_id
    api_keys passwords password2 token_1 spring.datasource.password _authToken stripeKey
    dbpass storage-account-key
"""
PLAIN_NAMES = """
    max_tokens n_tokens tokenizer token_count token_url tokens key keys key_columns
    sort_key n_keys primary_key foreignKey partition_key group_key join_key cache_key
    dict_key public_key monkey keyboard pad_token eosToken max_token low_pass bypass
    passes password_policy secret_name credentials_path random_state C author
"""
SECRETS = {
    "a.yml": [
        "db:\n  password: V01\n  user: me",
        "api_key: V01  # mine",
        "- token: 'V01'",
        "api_keys:\n  - V01\n  - 'V01'\nx: 1",
        "password:\n- V01\nx: 1",
        "secrets:\n  a: V01\n  b:\n    c: V01\nd: 1",
        "password: |\n  V01\n  V01\nnext: 2",
        "db: {user: me, password: V01, port: 2}",
        "api_keys: [V01, 'V01']",
        "url: postgresql://me:V01@db/x",
        "header: 'Authorization: Bearer V01abcdefgh'",
        "url: https://host.org/a?sig=V01&sv=2",
        "conn: AccountName=n;AccountKey=V01==;EndpointSuffix=x",
        "key: |\n  " + PEM.format("RSA PRIVATE").replace("\n", "\n  "),
        "anything: ghp_" + FORM,
        "anything: sk-proj-" + FORM,
        "anything: xoxb-V01-" + FORM,
        "anything: eyJV01abc.eyJV01abc.V01abc",
        "anything: AKIA" + "V01X" * 4,
    ],
    "a.json": [
        '{"a": {"password": "V01"}}',
        '{\n  "api_key": "V01",\n  "x": 1\n}',
        '{"private_key_id": "V01", "x": 1}',
        '{"x": "-----BEGIN PRIVATE KEY-----\\nV01\\n-----END PRIVATE KEY-----\\n"}',
        '{\n "api_keys": [\n  "V01"\n ],\n "x": 1}',
        '{"a": 1, "api_keys": ["V01",\n"V01"]}',
        '{"text": "{\\"password\\": \\"V01\\"}"}',
    ],
    "conf/.env": [
        "DB_PASS=V01",
        'API_TOKEN="V01"',
        "export AWS_SECRET_ACCESS_KEY=V01/x",
    ],
    "a.ini": ["[db]\npassword = V01 and V01"],
    "a.toml": ['[db]\ntoken = "V01"'],
    "a.sh": ["export TOKEN=V01", "mysql --password=V01", "x --token V01 y"],
    ".netrc": ["machine h login me password V01", "machine h\n  password V01"],
    ".pgpass": ["host:5432:db:me:V01"],
    "note.txt": ["machine h login me password V01"],
    "a.xml": ["<password>V01</password>"],
    "a.py": [
        'API_TOKEN = "V01"',
        'connect(user="me", password="V01")',
        '{"password": "V01"}',
        'password: str = "V01"',
        'password = """V01"""',
        'passwords = ["V01", "V01"]',
        'os.environ["DB_PASS"] = "V01"',
        'os.environ.setdefault("TOKEN", "V01")',
        'url = "postgresql://me:V01@db/x"',
        '["-H", "X-Api-Key: V01"]',
        'dsn = "host=h dbname=d password=V01 port=1"',
        "odbc = 'DRIVER=x;UID=me;PWD=V01'",
        'run("mysql --password=V01 x")',
        'key = """' + PEM.format("EC PRIVATE") + '"""',
    ],
    "a.ipynb": ['  "api_key = \\"V01\\"\\n",'],
}
PLAIN = {
    "a.py": [
        "token = tokenizer(x)",
        "token = tokens[0]",
        'if token == "and":',
        "def f(password: str, token=None): ...",
        "f(token=token, max_tokens=100)",
        'api_key = os.environ["API_KEY"]',
        'api_key="api_key"',
        'MODEL_KEY = "model"',
        'df.sort_values("x", sort_key="name1")',
        'url = f"postgresql://{user}:{password}@{host}/db"',
        '"https://cdn.example.org/npm/jquery@3.6"',
        '["password", "token"]',
        'raise ValueError("Invalid token: x")',
        'secret = r"[^=&]*(?:pass|token)[^=&]*"',
        'password = ""',
        'f("a", password=x, b="c")',
        'parser.add_argument("--token", help="a token")',
        'query = "select 1 where password=%s and token=?"',
        "# use --api-key KEY",
        'class Token:\n    """A word."""',
        "# Basic authentication, Bearer authentication",
    ],
    "a.yml": [
        "max_tokens: 100\ntokenizer: bert\nkey_columns: [a, b]\nn_keys: 3",
        "sort_key: sepal_length1",
        "password: null\ntoken: ${globals:token}\nsecret: ''",
        "password_policy: at least 8 characters",
        "return_token: true",
        "# password: see the vault",
    ],
    "catalog.yml": ["x:\n  credentials: flowers\n  filepath: s3://bucket/x"],
    "requirements.txt": [
        "detect-secrets==1.5.0\ngit+ssh://git@github.com/a/b.git",
        "git+https://github.com/a/b.git@v1",
    ],
    "a.sh": ["TOKEN=$(cat x)", 'PASSWORD="${PASSWORD:?must be set}"', "API_KEY=$KEY"],
}
CASES = [(name, text) for name, texts in SECRETS.items() for text in texts]
KEPT = [(name, text) for name, texts in PLAIN.items() for text in texts]


def as_diff(name: str, text: str) -> str:
    """Return the diff of a new file."""
    lines = "".join(f"+{line}\n" for line in text.rstrip("\n").split("\n"))
    return (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/{name}\n@@ -0,0 +1,{lines.count(chr(10))} @@\n{lines}"
    )


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_are_secret_by_their_ending(tracking, name):
    assert tracking.secret_names.is_secret(name)
    assert tracking.redact.mask_values({"a": [{name: "V01"}]}) == {"a": [{name: "***"}]}


@pytest.mark.parametrize("name", PLAIN_NAMES.split())
def test_other_names_are_not(tracking, name):
    assert not tracking.secret_names.is_secret(name)
    assert tracking.redact.mask_values({name: "V01"}) == {name: "V01"}


@pytest.mark.parametrize("name, text", CASES)
def test_secrets_are_hidden_in_files_and_in_their_diffs(tracking, name, text):
    hidden = tracking.redact.file(name, text)
    assert SECRET not in hidden and "***" in hidden
    assert hidden.count("\n") == text.count("\n")
    hidden = tracking.redact.diff(as_diff(name, text))
    assert SECRET not in hidden and "***" in hidden
    signs = [line[:1] for line in as_diff(name, text).split("\n")]
    assert [line[:1] for line in hidden.split("\n")] == signs


@pytest.mark.parametrize("name, text", KEPT)
def test_everything_else_stays(tracking, name, text):
    assert tracking.redact.file(name, text) == text
    changes = as_diff(f"conf/{name}", text)
    assert tracking.redact.diff(changes) == changes


def test_hiding_twice_changes_nothing(tracking):
    for name, text in CASES:
        hidden = tracking.redact.file(name, text)
        assert tracking.redact.file(name, hidden) == hidden


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
