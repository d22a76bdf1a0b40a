"""``tracking.secret_patterns``: what is hidden in files of each kind."""

import pytest

SECRET = "V01"  # what must never be seen
FORM = "V01a" + "b2" * 20
PEM = "-----BEGIN {0} KEY-----\nV01aaaaaaaaaaaaaaaaa\nV01=\n-----END {0} KEY-----\n"
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
