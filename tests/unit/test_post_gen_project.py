"""After generation: the check of this machine, and the next commands."""

import os
import runpy
import sys
import tempfile

import pytest
from cookiecutter.environment import StrictEnvironment
from machine import INSTALL, Machine, http_server
from runs import ROOT

HOOK = ROOT / "hooks" / "post_gen_project.py"


@pytest.fixture
def machine(tmp_path, generated) -> Machine:
    """Return a machine with the libraries that the project requires, and no tools."""
    return Machine(tmp_path, generated)


@pytest.fixture
def after_generation(machine, monkeypatch, tmp_path, capfd):
    """Return a function that runs the hook in the project and returns its output."""

    def run(answers: dict[str, str] | None = None, **env: str) -> str:
        text = StrictEnvironment().from_string(HOOK.read_text("utf-8"))
        script = tmp_path / "hook.py"
        script.write_text(text.render(cookiecutter=answers or {}), "utf-8")
        os.environ.clear()  # the fixture of all unit tests restores it
        os.environ.update(machine.env | env)
        monkeypatch.chdir(machine.project)
        monkeypatch.setattr(sys, "executable", str(machine.python))
        runpy.run_path(str(script), run_name="__main__")
        output, error = capfd.readouterr()
        assert error == ""
        return output

    return run


def test_next_commands(machine, after_generation):
    machine.tool("uv")
    machine.install("pandas", "")
    table, commands = after_generation().split("Next:\n")
    assert "ok   kedro" in table
    assert commands.splitlines() == [
        f"  cd '{machine.project}'",
        f"  {INSTALL}",
        "  kedro run",
        "  source config.sh && mlflow run . --env-manager uv",
    ]


def test_missing_packages_are_no_failure(machine, after_generation):
    machine.install("mlflow", "")
    output = after_generation(PYTHONIOENCODING="ascii")
    assert "  source config.sh && mlflow run ." in output


def test_no_network(after_generation):
    with http_server() as server:
        address = f"http://127.0.0.1:{server.server_port}"
        assert address in after_generation(MLFLOW_TRACKING_URI=address)
        assert server.RequestHandlerClass.asked == []


def test_a_check_that_breaks_costs_nobody_the_project(machine, after_generation):
    (machine.project / "requirements.txt").unlink()
    output = after_generation()
    assert output.startswith(f"Next:\n  cd '{machine.project}'\n")


def test_cruft_which_generates_to_compare_gets_no_table(
    machine, after_generation, monkeypatch, capfd
):
    temporary = machine.project.parent
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(SystemExit) as left:
        after_generation({"_commit": "0123abc"})
    assert left.value.code is None and capfd.readouterr() == ("", "")
    monkeypatch.setattr(tempfile, "tempdir", str(machine.bin))
    assert "Next:\n" in after_generation({"_commit": "0123abc"})
