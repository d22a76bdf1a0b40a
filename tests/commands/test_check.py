"""check.py and the hook after generation, each in a process of its own."""

import shutil
import subprocess
import sys

import pytest
from machine import BROUGHT, INSTALL, Machine, make_environment, silent_port
from runs import run


@pytest.fixture
def machine(tmp_path, generated) -> Machine:
    return Machine(tmp_path, generated)


def test_an_environment_that_is_not_active(machine, tmp_path):
    """The commands that are said work as they stand."""
    machine.install("pandas", "")
    away = tmp_path / "an environment" / "bin"
    away.mkdir(parents=True)
    machine.python = machine.python.rename(away / "python3")
    (away / "pip").write_text('#!/bin/sh\necho "installed: $*"')
    (away / "pip").chmod(0o755)
    machine.check()
    path, install, *_ = machine.steps
    assert path == f"""export PATH='{away}':"$PATH\""""
    assert install == INSTALL
    words = ("/bin/sh", "-c", f"{path}\n{install}")
    status, output, _ = machine.run(*words, env=machine.env)
    assert (status, output) == (0, "installed: install -r requirements.txt\n")


@pytest.mark.parametrize("missing", BROUGHT)
def test_before_anything_is_installed_it_says_what_to_install(machine, missing):
    (machine.site / missing).unlink()
    machine.check()
    assert machine.output.startswith("note packages  not installed")
    assert machine.steps == [INSTALL, "python check.py"]
    words = (machine.python, "-S", "check.py", "--exports")
    status, output, said = machine.run(*words, env=machine.env)
    assert (status, output) == (1, "")
    assert said.startswith("config.sh: nothing is installed for ") and INSTALL in said


def test_from_any_directory_it_prints_the_table_alone(generated, tmp_path):
    env = {"PYTHONDONTWRITEBYTECODE": "1"}  # the rendered project stays as it is
    done = run(sys.executable, generated / "check.py", cwd=tmp_path, **env)
    assert done.stdout.startswith("ok   Python ") and done.stderr == ""
    assert f"ok   tracking  {generated}/mlflow.db, will be created\n" in done.stdout


def test_a_kedro_that_is_too_old_for_the_project(machine, tmp_path):
    folder = tmp_path / "old" / "kedro"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    machine.check_with_mlflow(PYTHONPATH=str(folder.parent))
    assert machine.line("tracking").endswith("/mlflow.db, not asked")


@pytest.mark.parametrize("option", ["--offline", "--exports"])
def test_the_check_imports_nothing_slow(machine, option):
    """`kedro new` waits for the first, the owner's shell for the second."""
    code = (
        f"import runpy, sys; sys.argv = ['check.py', {option!r}]\n"
        "try: runpy.run_path('check.py', run_name='__main__')\n"
        "except SystemExit: print(*sys.modules)"
    )
    env = machine.env | {"PYTHONDONTWRITEBYTECODE": "1"}  # `src` is shared
    status, output, _ = machine.run(sys.executable, "-c", code, env=env)
    modules = set(output.splitlines()[-1].split())
    slow = {"mlflow", "kedro", "ssl", "urllib.request"}
    if option == "--exports":
        slow |= {"importlib.metadata", "subprocess"}
    assert status == 0 and not modules & slow


def test_paths_that_the_terminal_cannot_show(machine):
    machine.check(PYTHONIOENCODING="ascii")
    assert "?pfel & Birnen" in machine.line("tracking")


def test_exit_status_and_exports(machine, tmp_path):
    """As config.sh calls it: without the variables that the user has set for Python."""
    make_environment(tmp_path)
    words = (machine.python, "-E", "-X", "utf8", "check.py", "--exports")
    answer = machine.run(*words, env=machine.env | {"PYTHONHOME": "/nowhere"})
    machine.expect(answer, 0, ("--exports",))
    uri = f"sqlite:///{machine.project}/mlflow.db"
    assert f"export MLFLOW_TRACKING_URI='{uri}'\n" in machine.output
    assert not list(machine.project.rglob("__pycache__"))
    folder = machine.project / "no folder"
    uri = f"sqlite:///{folder}/mlflow.db"
    machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
    assert machine.line("tracking").startswith("FAIL tracking cannot write")


def test_path_under_a_virtual_environment(machine):
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
    machine.check(PATH=path)
    expected = f"note conda {home}, which MLflow is not told of source config.sh"
    assert machine.line("conda") == expected
    assert machine.steps[-1] == "source config.sh && mlflow run ."


def test_silent_server(machine):
    with silent_port() as port:
        uri = f"http://127.0.0.1:{port}"
        machine.check_with_mlflow(expect=1, MLFLOW_TRACKING_URI=uri)
    assert machine.line("tracking").startswith("FAIL tracking ")
