"""Jinja extensions: versions of this machine, a check of names, pages of docs/."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from cookiecutter.hooks import run_script_with_context
from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context

HERE = Path(__file__).resolve().parent
HOOK = HERE / "hooks" / "pre_gen_project.py"
OLDEST_KEDRO = "1.7.0"
# The names of the project that docs/ describes, and the answers that replace them.
EXAMPLE = {
    "Iris Flowers": "project_name",
    "iris-flowers": "repo_name",
    "iris_flowers": "python_package",
}


class Versions(Extension):
    """Gives templates ``python_version`` and ``kedro_version`` of this machine.

    Plain ``cookiecutter`` may run where Kedro is not installed; the project then
    names the oldest Kedro that its requirements admit.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        try:
            kedro_version = version("kedro")
        except PackageNotFoundError:
            kedro_version = OLDEST_KEDRO
        environment.globals.update(
            python_version=platform.python_version(), kedro_version=kedro_version
        )


class Names(Extension):
    """Gives templates ``refuse_bad_names``, which ends the program on a bad name.

    Cookiecutter runs its hooks in the project's folder, so it has made that folder,
    or failed to, before ``pre_gen_project.py`` can say why the name does not work; and
    Kedro prints a traceback of a hook that fails. Answers are rendered before both.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["refuse_bad_names"] = refuse_bad_names


def refuse_bad_names(answers: dict[str, object]) -> str:
    """Let the hook print its one line. Kedro lets ``SystemExit`` pass in silence."""
    try:
        run_script_with_context(HOOK, ".", {"cookiecutter": answers})
    except FailedHookException:
        raise SystemExit(1) from None
    return ""


class Pages(Extension):
    """Gives templates ``page``, which returns a page of docs/ for this project."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["page"] = page


@pass_context
def page(context: Context, name: str) -> str:
    """Return a file of docs/, with the project's names in place of the example's.

    The text is inserted as it is: Jinja does not interpret braces in it.
    """
    text = (HERE / "docs" / name).read_text("utf-8").removesuffix("\n")
    answers = context["cookiecutter"]
    names = "|".join(map(re.escape, EXAMPLE))
    return re.sub(names, lambda found: answers[EXAMPLE[found[0]]], text)
