"""The project's own commands of ``kedro``; yours may stand beside them."""

import click
from kedro.framework.cli.project import run  # noqa: F401 -- the installed package's

from .tracking.commands import COMMANDS


@click.group(name=__package__)
def cli() -> None:
    """Commands of this project."""


for command in COMMANDS:
    cli.add_command(command)
