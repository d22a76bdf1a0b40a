"""What cookiecutter asks of the starter while it renders: versions, good names."""

import importlib.util
import platform
import sys
from importlib import metadata

import pytest
from jinja2 import Environment
from names import GOOD, HOOK, LIBRARY, QUESTIONS, all_answers, helpful
from runs import ROOT


def load(name: str, path):
    """Import a file by its path."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


extensions = load("local_extensions", ROOT / "local_extensions.py")


def render(text: str) -> str:
    """Render a text with the extensions that cookiecutter.json names."""
    named = [name.rpartition(".")[2] for name in QUESTIONS["_extensions"]]
    classes = [getattr(extensions, name) for name in named]
    return Environment(extensions=classes).from_string(text).render(cookiecutter=GOOD)


def test_versions_of_this_machine():
    python, kedro = render("{{ python_version }} {{ kedro_version }}").split()
    assert (python, kedro) == (platform.python_version(), metadata.version("kedro"))


def test_without_kedro_the_oldest_that_will_do(monkeypatch):
    elsewhere = [entry for entry in sys.path if "site-packages" not in entry]
    monkeypatch.setattr(sys, "path", elsewhere)
    assert render("{{ kedro_version }}") == extensions.OLDEST_KEDRO


def test_oldest_kedro_is_said_alike():
    hook = load("hook", HOOK)
    assert extensions.OLDEST_KEDRO.startswith("{}.{}.".format(*hook.OLDEST_KEDRO))


def test_good_names_render_as_nothing(capfd):
    assert extensions.refuse_bad_names(all_answers({})) == ""
    assert capfd.readouterr() == ("", "")


def test_a_bad_name_ends_the_program_with_one_line(capfd):
    answers = all_answers({"project_name": "MLflow"})
    with pytest.raises(SystemExit, match="1"):
        extensions.refuse_bad_names(answers)
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and LIBRARY in line and helpful(line)


def test_templates_can_refuse_names():
    assert render("{{ refuse_bad_names }}") == str(extensions.refuse_bad_names)
