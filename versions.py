"""Versions of the machine that generates, for the template's files."""

import platform
from importlib.metadata import PackageNotFoundError, version

from jinja2 import Environment
from jinja2.ext import Extension

OLDEST_KEDRO = "1.7.0"


class Versions(Extension):
    """Gives templates ``python_version`` and ``kedro_version``.

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
