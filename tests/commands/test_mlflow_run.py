"""`mlflow run`: four environment managers, Git, and the ways in which it goes wrong.

Nothing of ours is on PATH but the tools that a test names: a package that conda.yaml
forgets cannot come from the environment that launches.
"""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import rattler
import yaml
from packaging.requirements import Requirement
from runs import AUTHOR, REPO, ROOT, free_port, recorded, run

PAGE = ROOT / "docs" / "mlflow-run.md"
# What activation scripts and `git submodule` call.
BASICS = ("basename", "bash", "cat", "dirname", "env", "sed", "uname")
PYTHON = "python{}.{}".format(*sys.version_info)
NOWHERE = "http://127.0.0.1:9/simple"


def conda_yaml(project: Path) -> dict:
    return yaml.safe_load((project / "conda.yaml").read_text("utf-8"))


def test_conda_reads_every_line_of_conda_yaml(generated):
    environment = conda_yaml(generated)
    assert environment["channels"] == ["conda-forge"]
    *names, pip = environment["dependencies"]
    python, installer = (rattler.MatchSpec(name, strict=True) for name in names)
    assert python.name.normalized == "python"
    assert str(python.version).removesuffix(".*") == platform.python_version()
    assert installer.name.normalized == "pip"  # or conda complains at length
    assert list(pip) == ["pip"]
    for line in pip["pip"]:
        assert Requirement(line).specifier, line  # and not `-r`


class Launcher:
    """A shell in which no environment is active, with the tools it is given."""

    def __init__(self, mlflow: Path, home: Path, store: Path):
        self.mlflow, self.home = mlflow, home
        self.tools = home / "tools"
        self.tools.mkdir()
        self.add(*BASICS)
        self.env = {"TMPDIR": str(home)}
        (home / "mlflow.db").write_bytes(store.read_bytes())
        self.env["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow.db'}"

    def add(self, *names: str) -> None:
        """Put tools on PATH; `python3.x` is the interpreter without any packages."""
        for name in names:
            found = Path(sys.base_prefix, "bin", name)
            found = found if name == PYTHON else shutil.which(name)
            if not found:
                pytest.skip(f"{name} is not installed")
            (self.tools / name).symlink_to(found)

    def run(self, *words: str, cwd: Path, before: str = "", after: str = "", **env):
        """Call `mlflow run` by its full path; return all that it said, and its status.

        The folders `before` and `after` are put on PATH in front of the tools and
        behind them.
        """
        path = os.pathsep.join(filter(None, [before, str(self.tools), after]))
        env = {**self.env, "PATH": path, **env}
        done = run(self.mlflow, "run", *words, cwd=cwd, ok=False, **env)
        said = " ".join(f"{done.stdout}\n{done.stderr}".split())
        return said, done.returncode

    def runs(self):
        return recorded(self.home)


@pytest.fixture
def launcher(bin_, tmp_path, empty_store):
    return Launcher(bin_ / "mlflow", tmp_path, empty_store)


def conda_home() -> str | None:
    """Return the folder of a real conda."""
    conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
    if not conda:
        return None
    base = [conda, "info", "--base"]
    return subprocess.run(base, capture_output=True, text=True).stdout.strip() or None


def remove_environments(conda: str, folder: Path) -> None:
    """Have conda remove and forget its environments in a folder."""
    for made in folder.iterdir():
        run(conda, "env", "remove", "--yes", f"--prefix={made}", cwd=folder, ok=False)


def pyenv_has(version: str) -> bool:
    """Whether pyenv can give this interpreter without compiling it."""
    if not shutil.which("pyenv"):
        return False
    root = subprocess.run(["pyenv", "root"], capture_output=True, text=True)
    return Path(root.stdout.strip(), "versions", version, "bin", "python").exists()


@pytest.mark.parametrize("manager", ["uv", "virtualenv", "conda"])
def test_it_runs_in_an_environment_of_its_own(launcher, project, manager, request):
    own = launcher.home / "environments"
    own.mkdir()
    env, after = {"MLFLOW_ENV_ROOT": str(own), "PIP_NO_COMPILE": "1"}, ""
    if manager == "uv":
        launcher.add("uv", PYTHON)
    elif manager == "virtualenv":
        if not pyenv_has(platform.python_version()):
            pytest.skip(f"pyenv has no Python {platform.python_version()}")
        after = os.pathsep.join([str(Path(shutil.which("pyenv")).parent), os.defpath])
    else:
        if not (home := conda_home()):
            pytest.skip("conda is not installed")
        env = {"MLFLOW_CONDA_HOME": home, "CONDA_ENVS_DIRS": str(own)}
        # conda's list of environments is the user's: MLflow names them by the text of
        # this file, so that no other is used, and what was made is taken off it.
        with (project / "conda.yaml").open("a") as file:
            file.write(f"# {uuid.uuid4()}\n")
        request.addfinalizer(lambda: remove_environments(f"{home}/bin/conda", own))
    said, status = launcher.run(
        *(".", "--env-manager", manager, "-P", "C=0.5"),
        cwd=project,
        after=after,
        **env,
    )
    assert status == 0, said[-4000:]
    (one,) = launcher.runs()
    assert (one.status, one.tags["mlflow.project.env"]) == ("FINISHED", manager)
    assert one.params["C"] == one.params["model_options.C"] == "0.5"
    assert one.metrics["accuracy"] >= 0.9
    assert Path(one.tags["python.executable"]).is_relative_to(own)
    assert one.tags["python.version"] == platform.python_version()


def test_what_conda_yaml_forgets_is_missing(launcher, bin_, project):
    """The launching environment has it, and does not help."""
    run(bin_ / "python", "-c", "import kedro_datasets", cwd=project)
    file = project / "conda.yaml"
    kept = [line for line in file.read_text().splitlines() if "datasets" not in line]
    file.write_text("\n".join(kept))
    launcher.add("uv", PYTHON)
    own = launcher.home / "environments"
    said, status = launcher.run(
        *(".", "--env-manager", "uv"), cwd=project, MLFLOW_ENV_ROOT=str(own)
    )
    assert status == 1
    assert [one.status for one in launcher.runs()] == ["FAILED"]
    assert "kedro-datasets" in said
    (made,) = own.iterdir()
    has = "import importlib.util as i; print(i.find_spec('kedro_datasets'))"
    assert run(made / "bin" / "python", "-c", has, cwd=own).stdout.strip() == "None"


@pytest.fixture(scope="session")
def served(generated, tmp_path_factory):
    """Serve a project of two commits by Git's own protocol.

    Returns:
        The URL, the commits ``HEAD`` and ``v1``, and the bare repository's folder.
    """
    daemon = run("git", "--exec-path", cwd=generated).stdout.strip() + "/git-daemon"
    if not Path(daemon).exists():
        pytest.skip("git daemon is not installed")
    home = tmp_path_factory.mktemp("git")
    project = shutil.copytree(generated, home / REPO)

    def git(*words: str) -> str:
        return run("git", *AUTHOR, *words, cwd=project).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=First")
    git("tag", "v1")
    parameters = project / "conf/base/parameters.yml"
    parameters.write_text(parameters.read_text().replace("margin: 0.0", "margin: 0.5"))
    git("commit", "--quiet", "--all", "--message=Second")
    git("clone", "--quiet", "--bare", ".", str(home / "served" / REPO))
    port = free_port()
    options = ["--reuseaddr", "--export-all", f"--base-path={home / 'served'}"]
    options += ["--listen=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([daemon, *options])
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        commits = {name: git("rev-parse", name) for name in ("HEAD", "v1")}
        yield f"git://127.0.0.1:{port}/{REPO}", commits, home / "served" / REPO
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize("asked", ["HEAD", "commit", "v1"])
def test_git_url_runs_from_an_empty_directory(launcher, bin_, served, asked):
    url, commits, _ = served
    commit = commits["HEAD" if asked == "HEAD" else "v1"]
    version = {"HEAD": (), "commit": ("-v", commit), "v1": ("-v", "v1")}[asked]
    empty = launcher.home / "empty"
    empty.mkdir()
    launcher.add("git")
    said, status = launcher.run(
        *(url, *version, "--env-manager", "local"),
        *("--experiment-name", "from git"),
        cwd=empty,
        before=str(bin_),
    )
    assert status == 0, said[-4000:]
    (one,) = launcher.runs()
    assert (one.status, one.experiment) == ("FINISHED", "from git")
    assert one.tags["mlflow.source.git.commit"] == commit
    assert one.tags["git.dirty"] == "false"
    assert one.tags["mlflow.source.name"] == url
    margin = one.params["promote_options.margin"]
    assert margin == ("0.5" if asked == "HEAD" else "0.0")
    assert "figures/confusion_matrix.png" in one.artifacts
    # A new experiment of a database keeps its artifacts where it was first used.
    assert {path.name for path in empty.iterdir()} <= {"mlruns"}


LOCAL = ("--env-manager", "local")
CONDA = """#!/bin/sh
[ "$1 $2" = "env list" ] && echo '{"envs": []}'
exit 0
"""
# What a user does, the tools at hand, and the words of the answer that the page has.
WRONG = {
    "no conda": (["."], "", "Could not find Conda executable at conda"),
    "only condabin": (["."], "conda", "activate: No such file or directory"),
    "no uv": ([".", "--env-manager", "uv"], "", "No such file or directory: 'uv'"),
    "no pyenv": (
        [".", "--env-manager", "virtualenv"],
        "",
        "No such file or directory: 'None'",
    ),
    "no environment": ([".", *LOCAL], "", "kedro: command not found"),
    "no such Python": (
        ["other", "--env-manager", "uv"],
        f"uv {PYTHON}",
        "No interpreter found for Python",
    ),
    "no network": (
        [".", "--env-manager", "uv"],
        f"uv {PYTHON}",
        "Failed to fetch",
    ),
    "parameter misspelt": ([".", *LOCAL, "-P", "c=1"], "kedro", "No such option '--c'"),
    "text for a number": (
        [".", *LOCAL, "-P", "C=abc"],
        "kedro",
        "InvalidParameterError",
    ),
    "number out of range": (
        [".", *LOCAL, "-P", "C=-1"],
        "kedro",
        "InvalidParameterError",
    ),
    "unknown option": (
        [".", *LOCAL, "-P", "params=model_options.penalti=l1"],
        "kedro",
        "unexpected keyword argument",
    ),
    "parameter without value": ([".", "-P", "C"], "", "Use -P name=value"),
    "no such entry point": (
        [".", "-e", "train"],
        "",
        "Could not find train among entry points",
    ),
    "not a project": (["conf"], "", "Could not find main among entry points []"),
    "bare repository": (
        ["BARE"],
        "git",
        "Could not find main among entry points []",
    ),
    "no such folder": (["nowhere"], "git", "does not appear to be a git repository"),
    "version of a folder": (
        [".", "-v", "v1"],
        "git",
        "Setting a version is only supported for Git project URIs",
    ),
    "short commit": (
        ["URL", "-v", "SHORT", *LOCAL],
        "git",
        "Unable to checkout version",
    ),
    "no git": (["URL"], "", "Bad git executable"),
    "two experiments": (
        [".", "--experiment-name", "mine"],
        "MLFLOW_EXPERIMENT_ID",
        "Specify only one of 'experiment-name' or 'experiment-id'",
    ),
}


@pytest.mark.parametrize("way", WRONG)
def test_what_goes_wrong_is_on_the_page(launcher, bin_, project, request, way):
    words, tools, message = WRONG[way]
    if {"URL", "BARE"} & {*words}:
        url, commits, bare = request.getfixturevalue("served")
        real = {"URL": url, "SHORT": commits["v1"][:8], "BARE": str(bare)}
        words = [real.get(word, word) for word in words]
    if way == "no such Python":
        other = shutil.copytree(project, project / "other")
        text = (other / "conda.yaml").read_text()
        python = platform.python_version()
        assert f"python={python}" in text
        missing = python.rpartition(".")[0] + ".99"
        (other / "conda.yaml").write_text(text.replace(python, missing))
    env = {
        "MLFLOW_ENV_ROOT": str(launcher.home / "environments"),
        **{"UV_DEFAULT_INDEX": NOWHERE, "UV_CACHE_DIR": str(launcher.home / "cache")},
        **{"UV_HTTP_RETRIES": "0", "UV_PYTHON_DOWNLOADS": "never"},
    }
    before = ""
    for tool in tools.split():
        if tool == "kedro":
            before = str(bin_)
        elif tool.startswith("MLFLOW_"):
            env[tool] = "0"
        elif tool == "conda":  # what MLflow asks it, without an `activate` beside it
            (launcher.tools / tool).write_text(CONDA)
            (launcher.tools / tool).chmod(0o755)
        else:
            launcher.add(tool)
    said, status = launcher.run(*words, cwd=project, before=before, **env)
    assert status != 0
    assert message in said
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line[:2] == "| "]
    assert any(f"`{message}" in row or f"{message}`" in row for row in rows)


def test_why_a_version_of_a_folder_is_warned_of(launcher, project):
    """MLflow works in the folder itself; the page has the way back, and a better."""

    def git(*words: str) -> str:
        return run("git", *AUTHOR, *words, cwd=project).stdout.strip()

    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "One")):
        git(*words)
    git("tag", "v1")
    git("commit", "--quiet", "--allow-empty", "--message=Two")
    launcher.add("git")
    launcher.run(".", "-v", "v1", "-e", "nothing", cwd=project)
    assert git("branch", "--show-current") == ""
    assert git("rev-parse", "HEAD") == git("rev-parse", "v1")
    assert git("remote") == "origin"
    git("switch", "-")
    assert git("branch", "--show-current") == "main"


@pytest.mark.parametrize(
    ("parameter", "last"),
    [
        ("C=-1", r"InvalidParameterError: The 'C' parameter .* Got -1 instead\."),
        ("params=model_options.D=1", r"TypeError: .* keyword argument 'D'"),
        ("params=model_option.C=1", r"Error: .*model_option\b.*model_options.*"),
    ],
)
def test_the_last_lines_say_which_parameter_is_wrong(
    launcher, bin_, project, parameter, last
):
    """After Kedro's traceback, and before MLflow's own line about its run."""
    words = (".", *LOCAL, "-P", parameter)
    said, status = launcher.run(*words, cwd=project, before=str(bin_))
    assert status == 1
    end = r" [\d/]+ [\d:]+ ERROR mlflow\.cli: === Run \(ID '\w+'\) failed === "
    assert re.search(rf"{last}{end}$", f"{said} "), said[-1000:]


def test_a_project_without_git_runs(launcher, bin_, project):
    said, status = launcher.run(".", *LOCAL, cwd=project, before=str(bin_))
    assert status == 0, said[-4000:]
    (one,) = launcher.runs()
    assert one.status == "FINISHED"
    assert "mlflow.source.git.commit" not in one.tags
