"""The check of the environment: every line of its table made true for real."""

import ast
import contextlib
import http.server
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import types
from pathlib import Path

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
CHECK = ROOT / "{{ cookiecutter.repo_name }}" / "check.py"
HOOK = ROOT / "hooks" / "post_gen_project.py"
REQUIREMENTS = """\
kedro[pydantic]>=1.7,<2
mlflow>=3.17,<4  # tracking
pandas>=2.2,<4
scikit-learn>=1.7,<2
"""
INSTALLED = {
    "kedro": "1.7.0",
    "mlflow": "3.17.2",
    "pandas": "3.1",
    "scikit-learn": "1.9.1",
}
SOURCED = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_EXPERIMENT_NAME": "x"}

# Not imported: bytecode beside the file would end up in every generated project.
check = types.ModuleType("check")
check.__file__ = str(CHECK)
exec(CHECK.read_text("utf-8"), vars(check))


class Machine:
    """A project, on a machine with no tools and packages but those a test adds."""

    def __init__(self, home: Path):
        self.project = home / "Äpfel & Birnen" / "iris-flowers"
        self.bin, self.site = home / "bin", home / "site"
        for folder in (self.project / "conf/base", self.bin, self.site):
            folder.mkdir(parents=True)
        shutil.copy(CHECK, self.project)
        (self.project / "requirements.txt").write_text(REQUIREMENTS)
        for package, version in INSTALLED.items():
            self.install(package, version)
        self.tool("mlflow")
        self.env = {"PATH": str(self.bin), "PYTHONPATH": str(self.site)}
        self.output = self.said = ""

    def settings(self, text: str, env: str = "base") -> None:
        folder = self.project / "conf" / env
        folder.mkdir(exist_ok=True)
        (folder / "mlflow.yml").write_text(text, "utf-8", newline="")

    def install(self, package: str, version: str) -> None:
        name = package.replace("-", "_")
        for old in self.site.glob(f"{name}-*"):
            shutil.rmtree(old)
        if version:
            folder = self.site / f"{name}-{version}.dist-info"
            folder.mkdir()
            text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            (folder / "METADATA").write_text(text)

    def tool(self, path, script: str = "") -> Path:
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def conda(self, home: Path) -> Path:
        for file in ("bin/conda", "bin/activate", "etc/profile.d/conda.sh"):
            self.tool(home / file)
        return home

    def check(self, *arguments, expect: int = 0, **env) -> None:
        """Runs the check, without site-packages: only our own are installed."""
        done = subprocess.run(
            [sys.executable, "-S", "check.py", *arguments],
            cwd=self.project,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=10,
        )
        self.output, self.said = done.stdout, done.stderr
        assert done.returncode == expect, done
        assert self.said.startswith("config.sh: ") == ("--exports" in arguments), done
        assert self.said.count("\n") == len(self.said[:1])

    def exports(self, **env) -> dict[str, str]:
        """What config.sh would export, short of MLFLOW_HTTP_...; its line is `said`."""
        self.check("--exports", **env)
        words = [word for word in shlex.split(self.output) if word != "export"]
        return dict(word.split("=", 1) for word in words if "_HTTP_" not in word)

    def line(self, tool: str) -> str:
        """The line of the table for a tool, single-spaced."""
        rows = (" ".join(row.split()) for row in self.output.splitlines())
        return next(row for row in rows if f" {tool} " in row[: len(tool) + 6])

    @property
    def command(self) -> str:
        return self.output.splitlines()[-1]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def server():
    """An HTTP server: 200 for /health, 401 for /private/health, 404 for the rest."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = []

        def do_GET(self):
            self.asked.append(self.path)
            answers = {"/health": 200, "/private/health": 401}
            self.send_response(answers.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,)).start()
        yield running
        running.shutdown()


@pytest.fixture
def taken():
    """A port of this machine on which something listens without ever answering."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


versions = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(
    lambda numbers: ".".join(map(str, numbers))
)
clauses = st.tuples(st.sampled_from(sorted(check.COMPARE)), versions).map("".join)


@given(versions, st.lists(clauses, max_size=3).map(",".join))
def test_versions_compare_as_pip_compares_them(version, ranges):
    assert check.within(version, ranges) == SpecifierSet(ranges).contains(version)


@pytest.mark.parametrize("ranges", ["", "~=1.6", "==1.6.*", "===1.6", ">=1.7, <2"])
def test_ranges_that_are_not_ours_to_judge(ranges):
    assert check.within("1.7.0rc1", ranges)


@pytest.mark.parametrize(
    ("package", "version", "line", "status"),
    [
        ("kedro", "1.7.0", "ok Kedro 1.7.0", 0),
        ("kedro", "1.10.2", "ok Kedro 1.10.2", 0),
        ("kedro", "1.6.9", "FAIL Kedro 1.6.9 is too old for >=1.7,<2", 1),
        ("kedro", "2.0", "note Kedro 2.0 is not >=1.7,<2", 0),
        ("kedro", "", "note Kedro not installed", 0),
        ("mlflow", "3.17.2", "ok MLflow 3.17.2", 0),
        ("mlflow", "2.22", "note MLflow 2.22 is not >=3.17,<4", 0),
        ("scikit-learn", "1.9.1", "ok scikit-learn 1.9.1", 0),
        ("scikit-learn", "", "note scikit-learn not installed", 0),
        ("pandas", "1.5", "note packages without pandas", 0),
    ],
)
def test_packages(machine, package, version, line, status):
    machine.install(package, version)
    machine.check(expect=status, **SOURCED)
    tool = line.split()[1]
    if line.startswith("ok"):
        assert machine.line(tool) == line
        assert machine.command == "mlflow run . --env-manager local"
    else:
        assert machine.line(tool) == f"{line} pip install -r requirements.txt"
        assert machine.command.startswith("pip install -r requirements.txt && mlflow")


def test_mlflow_of_an_environment_that_is_not_active(machine):
    (machine.bin / "mlflow").unlink()
    machine.check()
    assert "MLflow 3.17.2, not on PATH activate " in machine.line("MLflow")


def test_an_old_python_gets_a_message_and_not_a_syntax_error(monkeypatch, capsys):
    ast.parse(CHECK.read_text("utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(check, "OLDEST_PYTHON", (99, 0))
    assert check.main() == 1
    assert capsys.readouterr().out.startswith("FAIL Python ")


@pytest.mark.parametrize("option", ["--offline", "--exports"])
def test_the_check_imports_nothing_slow(machine, option):
    code = (
        f"import runpy, sys; sys.argv = ['check.py', {option!r}]\n"
        "try: runpy.run_path('check.py', run_name='__main__')\n"
        "except SystemExit: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=machine.project,
        env=machine.env,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.splitlines()[-1].split())
    slow = {"kedro", "mlflow", "ssl", "urllib.request", "yaml"}
    if option == "--exports":
        slow |= {"importlib.metadata", "subprocess"}
    assert not modules & slow


def test_paths_that_the_terminal_cannot_show(machine):
    machine.check(PYTHONIOENCODING="ascii")
    assert "?pfel & Birnen" in machine.line("tracking")


class TestExports:
    @pytest.mark.parametrize(
        "text",
        [
            "tracking_uri: https://example.org/mlflow",
            "tracking_uri:   https://example.org  ",
            "tracking_uri : https://example.org # a comment",
            "tracking_uri: https://example.org/#part",
            'tracking_uri: "https://example.org" # quoted',
            "tracking_uri: 'https://example.org/a # b'  # it's",
            "\"tracking_uri\": databricks\n'experiment_name' : x",
            "# tracking_uri: no\nother_tracking_uri: no\ntracking_uri: yes:/\nz: no",
            "tracking_uri: https://example.org\r\nexperiment_name: x\r\n",
            "\ufefftracking_uri: sqlite:////absolute/mlflow.db",
            "a:\n  tracking_uri: nested\ntracking_uri: databricks",
        ],
    )
    def test_settings_are_read_as_yaml_reads_them(self, machine, text):
        machine.settings(text)
        settings, exports = yaml.safe_load(text), machine.exports()
        assert exports["MLFLOW_TRACKING_URI"] == settings["tracking_uri"]
        name = settings.get("experiment_name")
        assert exports.get("MLFLOW_EXPERIMENT_NAME") == name

    @pytest.mark.parametrize(
        "text",
        ["", "a: b", "tracking_uri:", "tracking_uri: # x", "tracking_uri: null # x"]
        + ["tracking_uri: ~", 'tracking_uri: ""', "tracking_uri:x: y"],
    )
    def test_default_address(self, machine, text):
        machine.settings(text)
        store = f"sqlite:///{machine.project}/mlflow.db"
        assert machine.exports() == {
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_BACKEND_STORE_URI": store,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{machine.project}/mlruns",
        }
        assert machine.said.startswith(f"config.sh: runs in {store}; no conda, so: ")

    @pytest.mark.parametrize(
        ("kedro_env", "uri"),
        [("", "http://local"), ("test", "http://test"), ("x", "http://b")],
    )
    def test_the_environment_overrides_base_key_by_key(self, machine, kedro_env, uri):
        machine.settings("tracking_uri: http://b\nexperiment_name: base")
        machine.settings("tracking_uri: http://local", "local")
        machine.settings("tracking_uri: http://test", "test")
        exports = machine.exports(KEDRO_ENV=kedro_env)
        assert exports == {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_EXPERIMENT_NAME": "base",
        }

    @pytest.mark.parametrize(
        ("uri", "database"),
        [
            ("postgresql+psycopg2://me:secret@db/mlflow", True),
            ("mysql+pymysql://db/mlflow?user=me&password=secret", True),
            ("mssql+pyodbc://secret@db/mlflow", True),
            ("https://me:secret@example.org", False),
            ("databricks", False),
        ],
    )
    def test_mlflow_ui_reads_databases_only(self, machine, uri, database):
        ui = {"MLFLOW_BACKEND_STORE_URI": uri} if database else {}
        assert machine.exports(MLFLOW_TRACKING_URI=uri) == ui
        assert "MLFLOW_TRACKING_URI was set before" in machine.said
        assert "secret" not in machine.said
        machine.settings(f"tracking_uri: {uri}")
        assert machine.exports() == {"MLFLOW_TRACKING_URI": uri, **ui}
        assert "set before" not in machine.said

    @pytest.mark.parametrize("name", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"])
    def test_no_experiment_name_next_to_an_id(self, machine, name):
        machine.settings("experiment_name: x")
        assert "MLFLOW_EXPERIMENT_NAME" not in machine.exports(**{name: "7"})
        assert machine.said.startswith("config.sh: 7 in ")

    @pytest.mark.parametrize(
        ("folder", "warned"), [("a%20b", True), ("a?", True), ("100% a", False)]
    )
    def test_paths_that_sqlite_addresses_cannot_hold(self, machine, folder, warned):
        machine.project = machine.project.rename(machine.project.parent / folder)
        machine.exports()
        assert ("rename the folder" in machine.said) == warned

    def test_an_empty_value_overrides_base(self, machine):
        machine.settings("tracking_uri: http://base\nexperiment_name: base")
        machine.settings("experiment_name: ~\ntracking_uri:", "local")
        store = f"sqlite:///{machine.project}/mlflow.db"
        assert machine.exports()["MLFLOW_TRACKING_URI"] == store
        assert "base" not in machine.output

    def test_values_of_our_own_are_marked(self, machine):
        machine.check("--exports", MLFLOW_HTTP_REQUEST_TIMEOUT="7")
        assert {row for row in machine.output.splitlines() if "_HTTP_" in row} == {
            "export MLFLOW_HTTP_REQUEST_MAX_RETRIES='5'",
            "export KEDRO_MLFLOW_HTTP_REQUEST_MAX_RETRIES='5'",
        }


secrets = st.text("s3cret/@:#%+.", min_size=1).map(lambda text: f"{text}§")
names = st.sampled_from(["me", "me%40corp", ""])
places = st.sampled_from(["db:5432/mlflow", "example.org", "[::1]:1/x?timeout=3", ""])
keys = st.sampled_from("user password passwd Password token secret api_key".split())


class TestMask:
    @given(st.sampled_from(["postgresql+psycopg2", "https"]), names, secrets, places)
    def test_what_stands_before_the_host(self, scheme, name, secret, place):
        masked = f"{scheme}://***@{place}"
        assert check.mask(f"{scheme}://{name}:{secret}@{place}") == masked
        assert check.mask(f"{scheme}://{secret}@{place}") == masked

    @given(keys, secrets, st.sampled_from("?&"), st.sampled_from(["", "&charset=x"]))
    def test_values_of_a_query(self, key, secret, sign, end):
        start = f"mysql://db/x?timeout=3{sign}{key}="
        assert check.mask(f"{start}{secret}{end}") == f"{start}***{end}"

    def test_a_database_of_microsofts(self):
        uri = "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret"
        assert check.mask(uri) == "mssql+pyodbc:///?odbc_connect=***"

    @pytest.mark.parametrize(
        "uri",
        ["databricks", "sqlite:////a b/mlflow.db", "https://example.org:5000/x?y=z"]
        + ["postgresql+psycopg2://db:1/mlflow?sslmode=require", "${oc.env:TRACKING}"],
    )
    def test_an_address_without_secrets_stays(self, uri):
        assert check.mask(uri) == uri


class TestConda:
    def test_none(self, machine):
        machine.check()
        assert machine.line("conda") == "- conda not found"

    @pytest.mark.parametrize(
        ("name", "value", "state"),
        [
            ("MLFLOW_CONDA_HOME", "{}", "{}, by MLFLOW_CONDA_HOME"),
            ("CONDA_EXE", "{}/bin/conda", "{}/bin/conda, by CONDA_EXE"),
            ("PATH", "{}/bin/", "{}/bin/conda, by PATH"),
        ],
    )
    def test_what_mlflow_finds(self, machine, name, value, state):
        home = machine.conda(machine.bin / "miniforge")
        machine.check(**{name: value.format(home)}, **SOURCED)
        assert machine.line("conda") == f"ok conda {state.format(home)}"
        assert machine.command.endswith("mlflow run .")

    def test_home_without_conda(self, machine):
        machine.tool("uv")
        machine.check(MLFLOW_CONDA_HOME="/nowhere")
        expected = (
            "note conda none in MLFLOW_CONDA_HOME=/nowhere unset MLFLOW_CONDA_HOME"
        )
        assert machine.line("conda").startswith(expected)
        assert machine.command == "source config.sh && mlflow run . --env-manager uv"
        assert "MLFLOW_CONDA_HOME" not in machine.exports(MLFLOW_CONDA_HOME="/nowhere")
        expected = "MLFLOW_CONDA_HOME=/nowhere is no conda: unset it\n"
        assert machine.said.endswith(f"--env-manager uv; {expected}")

    def test_path_under_a_virtual_environment(self, machine):
        """Bash takes the `activate` of the virtual environment, not executable."""
        home = machine.conda(machine.bin / "miniforge")
        (machine.bin / "activate").write_text("echo of the virtual environment\n")
        path = f"{machine.bin}:{home}/bin"
        if bash := shutil.which("bash"):
            shown = subprocess.run(
                [bash, "-c", "source activate NAME"],
                env={"PATH": path},
                capture_output=True,
                text=True,
            )
            assert shown.stdout == "of the virtual environment\n"
        machine.check(PATH=path, **SOURCED)
        expected = (
            f"note conda {home}/bin/conda, but not its `activate` source config.sh"
        )
        assert machine.line("conda") == expected
        assert machine.command == "source config.sh && mlflow run ."

    @pytest.mark.parametrize("kind", ["link", "wrapper", "behind a stale CONDA_EXE"])
    def test_what_config_sh_finds(self, machine, kind):
        home = machine.conda(machine.bin / "miniforge")
        env = {"CONDA_EXE": "/gone/bin/conda"} if "stale" in kind else {}
        if kind == "link":
            (machine.bin / "conda").symlink_to(home / "bin/conda")
        elif kind == "wrapper":
            machine.tool("conda", f'[ "$*" = "info --base" ] && echo "{home}"')
        else:
            env["PATH"] = f"{machine.bin}:{home}/bin"
        machine.check(**env, **SOURCED)
        assert machine.line("conda").startswith("note conda ")
        assert machine.command == "source config.sh && mlflow run ."
        assert machine.exports(**env)["MLFLOW_CONDA_HOME"] == str(home)
        assert machine.said.endswith(f"; conda in {home}\n")

    @pytest.mark.parametrize("script", ["exit 1", "echo", "echo /nowhere"])
    def test_a_conda_that_does_not_tell(self, machine, script):
        machine.tool("conda", script)
        machine.check(**SOURCED)
        assert machine.command == "mlflow run . --env-manager local"
        assert "MLFLOW_CONDA_HOME" not in machine.exports()

    def test_the_current_directory_is_no_conda(self, machine):
        machine.conda(machine.project)
        assert "MLFLOW_CONDA_HOME" not in machine.exports()

    def test_without_its_activation_script(self, machine):
        machine.tool("conda/bin/conda")
        machine.check(PATH=f"{machine.bin}:{machine.bin}/conda/bin")
        assert machine.line("conda").endswith("has no etc/profile.d/conda.sh")
        assert machine.command.endswith("--env-manager local")

    @pytest.mark.parametrize("mamba", ["mamba", "micromamba"])
    def test_mamba_alone(self, machine, mamba):
        machine.tool(mamba)
        machine.check()
        expected = (
            f"- conda not found: MLflow cannot do with {machine.bin}/{mamba} alone"
        )
        assert machine.line("conda") == expected
        machine.exports()
        assert machine.said.endswith("; mamba alone does not do for MLflow\n")


@pytest.mark.parametrize(
    ("tools", "manager"),
    [
        ([], "local"),
        (["pyenv"], "virtualenv"),
        (["uv"], "uv"),
        (["uv", "pyenv"], "uv"),
    ],
)
def test_the_command_takes_the_best_tool_there_is(machine, tools, manager):
    for tool in tools:
        machine.tool(tool)
    machine.check(**SOURCED)
    for tool in ("uv", "pyenv"):
        found = f"ok {tool} {machine.bin}/{tool}, by PATH"
        assert machine.line(tool) == (found if tool in tools else f"- {tool} not found")
    run = f"mlflow run . --env-manager {manager}"
    assert machine.command == run
    machine.exports()
    assert machine.said.endswith(f"; no conda, so: {run}\n")


def test_sourcing_is_advised_for_what_it_can_export(machine):
    uri = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    run = "mlflow run . --env-manager local"
    machine.settings("experiment_name: x")
    for env, command in [
        ({}, f"source config.sh && {run}"),
        (uri, f"source config.sh && {run}"),
        ({**uri, "MLFLOW_EXPERIMENT_NAME": "y"}, run),
        ({**uri, "MLFLOW_EXPERIMENT_ID": "7"}, run),
    ]:
        machine.check(**env)
        assert machine.command == command


def test_git(machine):
    machine.check()
    assert machine.line("git").startswith("note git not found")
    machine.tool("git")
    machine.check()
    assert machine.line("git").startswith("note git no repository")
    (machine.project.parent / ".git").mkdir()
    machine.check()
    assert machine.line("git") == "ok git the project is in a repository"


class TestTracking:
    def fill(self, machine, script: str) -> Path:
        store = machine.project / "mlflow.db"
        with contextlib.closing(sqlite3.connect(store)) as db:
            db.executescript(script)
        return store

    def migrations(self, machine, *revisions: str) -> None:
        folder = machine.site / "mlflow/store/db_migrations/versions"
        folder.mkdir(parents=True)
        older = "None"
        for revision in revisions:
            text = f'revision = "{revision}"\ndown_revision = {older}\n'
            (folder / f"{revision}_change.py").write_text(text)
            older = f'"{revision}"'

    def test_default_is_in_the_project(self, machine):
        machine.check()
        expected = f"ok tracking {machine.project}/mlflow.db, will be created"
        assert machine.line("tracking") == expected

    def test_the_users_address_wins(self, machine):
        machine.settings("tracking_uri: sqlite:///base.db")
        machine.check()
        assert f"{machine.project}/base.db, will" in machine.line("tracking")
        machine.check(MLFLOW_TRACKING_URI="sqlite:///mine.db")
        assert f"{machine.project}/mine.db, will" in machine.line("tracking")

    def test_no_folder(self, machine):
        folder = machine.project / "no folder"
        machine.check(MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        line = machine.line("tracking")
        assert line.startswith(f"FAIL tracking cannot write in {folder} mkdir -p '")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
    def test_read_only_folder(self, machine, tmp_path):
        (tmp_path / "locked").mkdir(mode=0o500)
        machine.check(MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/locked/mlflow.db")
        assert "FAIL tracking cannot write" in machine.line("tracking")

    def test_not_a_database(self, machine):
        (machine.project / "mlflow.db").write_bytes(b"not a database " * 99)
        machine.check()
        assert machine.line("tracking").startswith("FAIL tracking ")
        assert "is not a database mv '" in machine.line("tracking")

    def test_empty_file(self, machine):
        (machine.project / "mlflow.db").touch()
        machine.check()
        assert machine.line("tracking").startswith("ok tracking ")

    HEAD = "CREATE TABLE alembic_version AS SELECT '{}' AS version_num;"
    RUNS = "CREATE TABLE runs (id); INSERT INTO runs VALUES (1);"

    @pytest.mark.parametrize(
        ("script", "level", "remedy"),
        [
            (HEAD.format("b2"), "ok", ""),
            (HEAD.format("b2") + RUNS, "ok", ""),
            (HEAD.format("a1") + RUNS, "FAIL", "mlflow db upgrade sqlite:///'"),
            (HEAD.format("a1"), "FAIL", "mv '"),
            ("CREATE TABLE runs (id);", "FAIL", "mv '"),
        ],
        ids=["current", "used", "old", "half made", "begun"],
    )
    def test_schema(self, machine, script, level, remedy):
        self.migrations(machine, "a1", "b2")
        before = self.fill(machine, script).read_bytes()
        machine.check()
        assert machine.line("tracking").startswith(f"{level} tracking ")
        assert remedy in machine.line("tracking")
        assert (machine.project / "mlflow.db").read_bytes() == before

    def test_schema_before_mlflow_is_installed(self, machine):
        self.fill(machine, self.HEAD.format("a1"))
        machine.check()
        assert machine.line("tracking").startswith("ok tracking ")

    def test_store_in_use(self, machine):
        store = self.fill(machine, self.HEAD.format("a1"))
        with contextlib.closing(sqlite3.connect(store)) as db:
            db.execute("BEGIN EXCLUSIVE")
            machine.check()
        assert "database is locked close what has it open" in machine.line("tracking")

    def test_server(self, machine, server):
        machine.check(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}/")
        assert machine.line("tracking").startswith("ok tracking http://127.0.0.1:")
        assert server.RequestHandlerClass.asked == ["/health"]
        assert "mlflow ui" not in machine.output

    def test_server_offline(self, machine, server):
        address = f"http://127.0.0.1:{server.server_port}"
        machine.check("--offline", MLFLOW_TRACKING_URI=address)
        assert machine.line("tracking") == f"ok tracking {address}"
        assert server.RequestHandlerClass.asked == []

    def test_server_of_something_else(self, machine, server):
        address = f"http://127.0.0.1:{server.server_port}/other"
        machine.check(MLFLOW_TRACKING_URI=address)
        expected = (
            f"note tracking {address} answers with 404: is it MLflow? open {address}"
        )
        assert machine.line("tracking") == expected

    def test_server_that_asks_for_credentials(self, machine, server):
        address = f"http://127.0.0.1:{server.server_port}/private"
        machine.check(MLFLOW_TRACKING_URI=address)
        expected = f"note tracking {address} asks for credentials export "
        assert machine.line("tracking").startswith(expected)
        assert "MLFLOW_TRACKING_USERNAME=..." in machine.line("tracking")

    @pytest.mark.parametrize("login", ["", "me:se/c@r:et@", "secret@"])
    def test_database_server(self, machine, taken, login):
        uri = f"postgresql+psycopg2://{login}127.0.0.1:{taken}/db"
        shown = f"{uri.partition('//')[0]}//{'***@' * bool(login)}127.0.0.1:{taken}/db"
        machine.check(MLFLOW_TRACKING_URI=uri)
        assert machine.line("tracking") == f"ok tracking {shown} answers"

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "mssql+pyodbc"])
    def test_dead_database_server(self, machine, scheme):
        uri = f"{scheme}://me:secret@127.0.0.1:{closed_port()}/db"
        machine.check(MLFLOW_TRACKING_URI=uri)
        line = machine.line("tracking")
        assert line.startswith(f"FAIL tracking {scheme}://***@127.0.0.1:")
        assert line.endswith(
            "/db does not answer start it, or choose another MLFLOW_TRACKING_URI"
        )
        machine.check("--offline", MLFLOW_TRACKING_URI=uri)
        assert machine.line("tracking").startswith(f"ok tracking {scheme}://***@")

    @pytest.mark.parametrize(
        "uri",
        ["postgresql:///db", "postgresql://me:secret@/db?host=/run/postgresql"]
        + ["mysql://127.0.0.1:{}/db?unix_socket=/run/mysqld.sock"],
    )
    def test_database_by_a_socket_file(self, machine, uri):
        machine.check(MLFLOW_TRACKING_URI=uri.format(closed_port()))
        assert machine.line("tracking").startswith("ok tracking ")

    @pytest.mark.parametrize("uri", ["postgresql://db:x/db", "mysql://[db/x"])
    def test_addresses_that_are_none(self, machine, uri):
        machine.check(MLFLOW_TRACKING_URI=uri)
        assert machine.line("tracking").startswith(f"FAIL tracking {uri} does not")

    def test_dead_server(self, machine, server):
        server.shutdown()
        server.server_close()
        machine.check(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}")
        assert " does not answer start it, or " in machine.line("tracking")

    def test_silent_server(self, machine, taken):
        machine.check(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{taken}")
        assert machine.line("tracking").startswith("FAIL tracking ")

    @pytest.mark.parametrize("uri", ["databricks", "${oc.env:TRACKING}"])
    def test_an_address_that_only_mlflow_or_kedro_knows(self, machine, uri):
        machine.settings(f"tracking_uri: {uri}")
        machine.check()
        assert machine.line("tracking") == f"ok tracking {uri}"

    @pytest.mark.parametrize("login", ["me:secret@", "secret@"])
    def test_passwords_are_not_shown(self, machine, server, login):
        for path in ("", "/private", "/other"):
            uri = f"http://{login}127.0.0.1:{server.server_port}{path}"
            machine.check(MLFLOW_TRACKING_URI=uri)
            assert "http://***@127.0.0.1:" in machine.line("tracking")
            assert "secret" not in machine.output

    def test_a_store_that_mlflow_made(self, machine):
        mlflow = pytest.importorskip("mlflow")
        store = machine.project / "mlflow.db"
        mlflow.MlflowClient(f"sqlite:///{store}").search_experiments()
        assert check.sqlite_line(store) == ("ok", "tracking", str(store), "")
        with contextlib.closing(sqlite3.connect(store)) as db:
            revision = db.execute("SELECT version_num FROM alembic_version").fetchone()
        assert (check.newest_schema(),) == revision


def test_a_taken_port_has_an_alternative(machine, taken):
    machine.check(MLFLOW_PORT=str(taken))
    line = machine.line("mlflow")
    assert line.startswith(f"note mlflow ui port {taken} is taken mlflow ui --port ")
    free = line.rpartition(" ")[2]
    machine.check(MLFLOW_PORT=free)
    assert machine.line("mlflow") == f"ok mlflow ui port {free} is free"


def test_the_file_has_nothing_that_jinja_would_render():
    text = CHECK.read_text("utf-8")
    template = jinja2.Template(text, keep_trailing_newline=True)
    assert template.render() == text


class TestAfterGeneration:
    def hook(self, machine, **env) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-S", HOOK],
            cwd=machine.project,
            env={**machine.env, **env},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    def test_next_commands(self, machine):
        machine.tool("uv")
        done = self.hook(machine)
        table, commands = done.stdout.split("Next:\n")
        assert "ok   Kedro" in table
        assert commands.splitlines() == [
            f"  cd '{machine.project}'",
            "  pip install -r requirements.txt",
            "  kedro run",
            "  source config.sh && mlflow run . --env-manager uv",
            "  python check.py",
        ]
        assert (done.returncode, done.stderr) == (0, "")

    def test_missing_packages_are_no_failure(self, machine):
        machine.install("mlflow", "")
        done = self.hook(machine, PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert "  source config.sh && mlflow run ." in done.stdout

    def test_no_network(self, machine, server):
        address = f"http://127.0.0.1:{server.server_port}"
        assert address in self.hook(machine, MLFLOW_TRACKING_URI=address).stdout
        assert server.RequestHandlerClass.asked == []

    def test_a_kedro_that_is_too_old(self, machine):
        machine.install("kedro", "1.6.9")
        done = self.hook(machine)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("FAIL Kedro")

    def test_a_check_that_breaks_costs_nobody_the_project(self, machine):
        (machine.project / "requirements.txt").unlink()
        done = self.hook(machine)
        assert done.returncode == 0
        assert "  kedro run" in done.stdout
