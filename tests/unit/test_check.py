"""The check of the environment: every line of its table made true for real.

check.py runs in this process, on a machine that a test makes. What takes a process is
in ``commands/test_check.py``; PostgreSQL is in ``heavy/test_check_databases.py``.
"""

import ast
import importlib
import os
import shutil
import sys
import sysconfig
import types
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from machine import Answer, Machine, http_server, silent_port
from runs import AUTHOR, run

INSTALL = "pip install -r requirements.txt"
LIBRARIES = [sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")]


def load(source: Path, project: Path) -> types.ModuleType:
    """Import check.py from its source, for the project in another folder.

    Not in the usual way: bytecode beside the file would end up in every project.
    """
    module = types.ModuleType("check")
    module.__file__ = str(source)  # the one file whose coverage is measured
    exec(compile(source.read_text("utf-8"), source, "exec"), vars(module))
    vars(module)["PROJECT"] = project
    return module


class MachineOfThisProcess(Machine):
    """A machine whose check runs in this process."""

    def __init__(self, home: Path, generated: Path, capsys: pytest.CaptureFixture):
        super().__init__(home, generated)
        self.source, self.capsys = generated / "check.py", capsys

    def main(self, arguments: tuple[str, ...], env: dict[str, str]) -> Answer:
        """Load the check and call it, with variables and arguments of its own."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(env)
        importlib.invalidate_caches()
        self.capsys.readouterr()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", ["check.py", *arguments])
                patch.setattr(sys, "path", list(sys.path))
                status = load(self.source, self.project).main()
        finally:
            os.environ.clear()
            os.environ.update(before)
        return status, *self.capsys.readouterr()

    def answer(self, arguments: tuple[str, ...], env: dict[str, str]) -> Answer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", str(self.python))
            path = [self.project, self.site, *LIBRARIES]
            patch.setattr(sys, "path", list(map(str, path)))
            for package in ("mlflow", "pip"):  # found without a look at the path
                patch.delitem(sys.modules, package, raising=False)
            return self.main(arguments, env)

    def answer_with_mlflow(
        self, arguments: tuple[str, ...], env: dict[str, str]
    ) -> Answer:
        return self.main(arguments, env)


@pytest.fixture(scope="session")
def check(generated) -> types.ModuleType:
    """Return the module."""
    return load(generated / "check.py", generated)


@pytest.fixture
def machine(tmp_path, generated, tracking_package, capsys) -> Machine:
    """Return a machine with the libraries that the project requires, and no tools."""
    return MachineOfThisProcess(tmp_path, generated, capsys)


@pytest.fixture
def server():
    """Return an HTTP server that answers MLflow, and refuses it below a path."""
    with http_server() as running:
        yield running


@pytest.fixture
def taken():
    """Return a port on which something listens without ever answering."""
    with silent_port() as port:
        yield port


@pytest.mark.parametrize(
    ("package", "version", "line"),
    [
        ("kedro", "1.7.0", "ok kedro 1.7.0"),
        ("kedro", "1.10.2", "ok kedro 1.10.2"),
        ("kedro", "1.6.9", "note kedro 1.6.9 is not >=1.7,<2"),
        ("kedro", "2.0", "note kedro 2.0 is not >=1.7,<2"),
        ("kedro", "", "note kedro not installed"),
        ("mlflow", "3.17.2", "ok mlflow 3.17.2"),
        ("mlflow", "2.22", "note mlflow 2.22 is not >=3.17,<4"),
        ("scikit-learn", "", "note scikit-learn not installed"),
        ("pandas", "1.5", "note pandas 1.5 is not >=2.2,<4"),
    ],
)
def test_packages(machine, package, version, line):
    machine.install(package, version)
    machine.check()
    ok = line.startswith("ok")
    assert machine.line(package) == (line if ok else f"{line} {INSTALL}")
    steps = ["kedro run", "source config.sh && mlflow run . --env-manager local"]
    assert machine.steps == (steps if ok else [INSTALL, *steps])


@pytest.mark.parametrize(
    ("wanted", "version", "good"),
    [
        ("pandas", "3.1", True),
        ("pandas ~= 2.2", "2.3", True),
        ("pandas ~= 2.2", "3.1", False),
        ("pandas==2.2.*", "2.2.3", True),
        ("pandas!=3.1", "3.1", False),
        ("pandas>=2.2", "10.0", True),
        ("pandas>=2.2,<4", "3.2.0rc1", True),
        ("pandas[parquet]>=2.2 # tables", "2.1", False),
        ('pandas>=9; python_version < "3"', "3.1", True),
        ("# pandas>=9", "3.1", True),
        ("--no-binary pandas", "3.1", True),
    ],
)
def test_versions_are_judged_as_pip_judges_them(machine, wanted, version, good):
    file = machine.project / "requirements.txt"
    file.write_text(f"kedro>=1.7,<2\n\n{wanted}\nmlflow>=3.17,<4\n")
    machine.install("pandas", version)
    machine.check()
    assert ("pandas" not in machine.output) == good
    assert (INSTALL in machine.steps) == (not good)
    assert "ok   mlflow" in machine.output


def test_packages_that_are_as_wanted_take_no_room(machine):
    machine.check()
    assert "pandas" not in machine.output and "scikit-learn" not in machine.output


@pytest.mark.parametrize("tool", ["uv", "conda"])
def test_mlflow_run_waits_for_no_installation_that_it_does_not_need(machine, tool):
    """In conda's base that would fill the base."""
    machine.install("pandas", "")
    env = {}
    if tool == "conda":
        home = machine.conda(machine.bin / "miniforge")
        env = {"CONDA_EXE": f"{home}/bin/conda"}
    else:
        machine.tool("uv")
    machine.check(**env)
    assert INSTALL not in machine.steps[-1] and INSTALL in machine.steps


def test_an_environment_without_pip(machine):
    """As `uv venv` makes them."""
    machine.install("pandas", "")
    (machine.site / "pip").rmdir()
    machine.tool("uv")
    machine.check()
    assert machine.steps[0] == f"uv {INSTALL}"


def test_an_old_python_gets_a_message_and_not_a_syntax_error(
    check, monkeypatch, capsys
):
    ast.parse(Path(check.__file__).read_text("utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(check, "OLDEST_PYTHON", (99, 0))
    assert check.main() == 1
    assert capsys.readouterr().out.startswith("FAIL Python ")


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
        if uri.startswith("https"):  # MLflow prints it with all that is in it
            ui["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
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
    def test_what_stands_before_the_host(self, check, scheme, name, secret, place):
        masked = f"{scheme}://***@{place}"
        assert check.mask(f"{scheme}://{name}:{secret}@{place}") == masked
        assert check.mask(f"{scheme}://{secret}@{place}") == masked

    @given(keys, secrets, st.sampled_from("?&"), st.sampled_from(["", "&charset=x"]))
    def test_values_of_a_query(self, check, key, secret, sign, end):
        start = f"mysql://db/x?timeout=3{sign}{key}="
        assert check.mask(f"{start}{secret}{end}") == f"{start}***{end}"

    def test_a_database_of_microsofts(self, check):
        uri = "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret"
        assert check.mask(uri) == "mssql+pyodbc:///?odbc_connect=***"

    @pytest.mark.parametrize(
        "uri",
        ["databricks", "sqlite:////a b/mlflow.db", "https://example.org:5000/x?y=z"]
        + ["postgresql+psycopg2://db:1/mlflow?sslmode=require", "${oc.env:TRACKING}"],
    )
    def test_an_address_without_secrets_stays(self, check, uri):
        assert check.mask(uri) == uri


class TestConda:
    def test_none(self, machine):
        machine.check()
        assert machine.line("conda") == "- conda not found"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("MLFLOW_CONDA_HOME", "{}"), ("CONDA_EXE", "{}/bin/conda")],
    )
    def test_what_mlflow_is_told(self, machine, name, value):
        home = machine.conda(machine.bin / "miniforge")
        machine.check(**{name: value.format(home)})
        assert machine.line("conda") == f"ok conda {home}"
        assert machine.steps[-1].endswith("mlflow run .")

    def test_home_without_conda(self, machine):
        machine.tool("uv")
        machine.check(MLFLOW_CONDA_HOME="/nowhere")
        expected = (
            "note conda none in MLFLOW_CONDA_HOME=/nowhere unset MLFLOW_CONDA_HOME"
        )
        assert machine.line("conda").startswith(expected)
        assert machine.steps[-1].endswith("mlflow run . --env-manager uv")
        assert "MLFLOW_CONDA_HOME" not in machine.exports(MLFLOW_CONDA_HOME="/nowhere")
        assert machine.said.endswith("; no conda, so: mlflow run . --env-manager uv\n")

    def test_path_under_a_virtual_environment(self, machine):
        """Bash takes the `activate` of the virtual environment, not executable."""
        home = machine.conda(machine.bin / "miniforge")
        (machine.bin / "activate").write_text("echo of the virtual environment\n")
        path = f"{machine.bin}:{home}/bin"
        machine.check(PATH=path)
        expected = f"note conda {home}, which MLflow is not told of source config.sh"
        assert machine.line("conda") == expected
        assert machine.steps[-1] == "source config.sh && mlflow run ."

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
        machine.check(**env)
        assert machine.line("conda").startswith("note conda ")
        assert machine.steps[-1] == "source config.sh && mlflow run ."
        assert machine.exports(**env)["MLFLOW_CONDA_HOME"] == str(home)
        assert machine.said.endswith(f"; conda in {home}\n")

    @pytest.mark.parametrize("script", ["exit 1", "echo", "echo /nowhere"])
    def test_a_conda_that_does_not_tell(self, machine, script):
        machine.tool("conda", script)
        machine.check()
        assert machine.steps[-1].endswith("mlflow run . --env-manager local")
        assert "MLFLOW_CONDA_HOME" not in machine.exports()

    def test_the_current_directory_is_no_conda(self, machine):
        machine.conda(machine.project)
        assert "MLFLOW_CONDA_HOME" not in machine.exports()

    def test_without_its_activation_script(self, machine):
        machine.tool("conda/bin/conda")
        machine.check(PATH=f"{machine.bin}:{machine.bin}/conda/bin")
        assert machine.line("conda") == "- conda not found"
        assert machine.steps[-1].endswith("--env-manager local")

    @pytest.mark.parametrize("mamba", ["mamba", "micromamba"])
    def test_mamba_alone(self, machine, mamba):
        machine.tool(mamba)
        machine.check()
        assert machine.line("conda") == "- conda not found"


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
    machine.check()
    for tool in ("uv", "pyenv"):
        found = f"ok {tool} {machine.bin}/{tool}"
        assert machine.line(tool) == (found if tool in tools else f"- {tool} not found")
    run = f"mlflow run . --env-manager {manager}"
    assert machine.steps[-1] == f"source config.sh && {run}"
    machine.exports()
    assert machine.said.endswith(f"; no conda, so: {run}\n")


def test_git(machine):
    machine.check()
    assert machine.line("git").startswith("note git not found")
    (machine.bin / "git").symlink_to(shutil.which("git"))
    machine.check()
    assert machine.line("git").startswith("note git no repository")
    assert machine.line("git").endswith(
        " git init && git add . && git commit -m 'First commit'"
    )
    for command in (("init", "-q"), (*AUTHOR, "commit", "-q", "--allow-empty", "-mx")):
        machine.check()
        assert machine.line("git").startswith("note git no ")
        run("git", *command, cwd=machine.project.parent)
    machine.check()
    assert machine.line("git") == "ok git the project is in a repository"


class TestTracking:
    """What is said of the store is in ``test_store_check.py``."""

    def test_default_is_in_the_project(self, machine):
        machine.check_with_mlflow()
        expected = f"ok tracking {machine.project}/mlflow.db, will be created"
        assert machine.line("tracking") == expected

    def test_the_users_address_wins(self, machine):
        machine.settings("tracking_uri: sqlite:///base.db")
        machine.check_with_mlflow()
        assert f"{machine.project}/base.db, will" in machine.line("tracking")
        machine.check_with_mlflow(MLFLOW_TRACKING_URI="sqlite:///mine.db")
        assert f"{machine.project}/mine.db, will" in machine.line("tracking")

    def test_a_store_that_cannot_work(self, machine):
        uri = f"sqlite:///{machine.project}/no folder/mlflow.db"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
        expected = f"FAIL tracking cannot write in {machine.project}/no folder mkdir -p"
        assert machine.line("tracking").startswith(expected)

    @pytest.mark.parametrize("env", ["base", "local", "databricks"])
    def test_settings_that_a_run_refuses(self, machine, env):
        machine.settings("tracking_url: x\n'experiment': y\nlock_timeout: 1\n", env)
        machine.check_with_mlflow(expect=1)
        said = f"FAIL mlflow.yml conf/{env}: mlflow.yml does not know tracking_url"
        assert machine.line("mlflow.yml") == f"{said}: did you mean tracking_uri?"
        assert "experiment: did you mean experiment_name?" in machine.output
        assert "lock_timeout" not in machine.output

    @pytest.mark.parametrize(
        "uri",
        ["sqlite:///mlflow.db", "databricks", "${oc.env:TRACKING}"]
        + ["http://127.0.0.1:9", "postgresql://me:s3cret@127.0.0.1:9/db"],
    )
    def test_before_mlflow_is_installed_nothing_is_asked(self, machine, uri):
        machine.settings(f"tracking_uri: {uri}")
        machine.check()
        shown = uri.replace("me:s3cret", "***")
        shown = shown.replace("///", f"///{machine.project}/")
        assert machine.line("tracking") == f"- tracking {shown}, not asked"

    def test_offline(self, machine, server):
        address = f"http://127.0.0.1:{server.server_port}"
        machine.check_with_mlflow(MLFLOW_TRACKING_URI=address)
        assert machine.line("tracking") == f"ok tracking {address} answers"
        asked = len(server.RequestHandlerClass.asked)
        machine.check_with_mlflow("--offline", MLFLOW_TRACKING_URI=address)
        assert machine.line("tracking") == f"- tracking {address}, not asked"
        assert len(server.RequestHandlerClass.asked) == asked
        machine.check_with_mlflow("--offline")
        file = f"sqlite:///{machine.project}/mlflow.db"
        assert machine.line("tracking") == f"- tracking {file}, not asked"

    @pytest.mark.parametrize("code", [401, 403])
    def test_credentials_are_hidden(self, machine, server, code):
        place = f"127.0.0.1:{server.server_port}/{code}"
        uri = f"http://me:s3cr%2Fet@{place}"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
        assert machine.line("tracking").startswith(f"FAIL tracking http://***@{place}:")
        assert " export MLFLOW_TRACKING_USERNAME=... " in machine.line("tracking")
        assert "MLFLOW_TRACKING_PASSWORD=... " in machine.line("tracking")
        assert "s3cr" not in machine.output

    def test_a_password_with_a_slash_is_hidden(self, machine, taken):
        uri = f"http://me:s3c/ret@127.0.0.1:{taken}"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
        assert machine.line("tracking").startswith("FAIL tracking http://***@127.0.0.1")
        assert "s3c" not in machine.output and "ret@" not in machine.output

    def test_a_database_of_microsofts(self, machine):
        uri = "mssql+pyodbc://me:s3cret@db/mlflow?password=s3cret"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
        shown = "mssql+pyodbc://***@db/mlflow?password=***"
        expected = f"FAIL tracking {shown}: No module named 'pyodbc' start or repair"
        assert machine.line("tracking").startswith(expected)
