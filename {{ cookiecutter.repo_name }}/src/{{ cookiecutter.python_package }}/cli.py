"""The project's own commands of ``kedro``; yours may stand beside them."""

import click
from kedro.framework.cli.project import run  # noqa: F401 -- the installed package's

from .tracking.replay import replay
from .tracking.runs import runs
from .tracking.share import receive, share


@click.group(name=__package__)
def cli() -> None:
    """Commands of this project."""


for command in (runs, replay, share, receive):
    cli.add_command(command)
