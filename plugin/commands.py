"""A plugin of Kedro: ``kedro runs``, ``replay``, ``share`` and ``receive``."""

import sys

import click
from kedro.framework.cli.utils import LazyGroup
from kedro.framework.project import settings

COMMANDS = {
    "runs": "mlflow_iris.tracking.commands.runs.runs",
    "replay": "mlflow_iris.tracking.commands.replay.replay",
    "share": "mlflow_iris.tracking.commands.share.share",
    "receive": "mlflow_iris.tracking.commands.share.receive",
}


def project_uses_tracking() -> bool:
    """Tell whether the project's settings name the hooks of ``mlflow_iris.tracking``.

    A project with a copy of ``tracking`` has the commands of its copy.
    """
    hooks = settings.HOOKS  # imports the project's settings
    tracking = sys.modules.get("mlflow_iris.tracking")
    return bool(tracking) and any(isinstance(h, tracking.MLflowRunHooks) for h in hooks)


class TrackingCommands(LazyGroup):
    """Commands of projects that record their runs with ``mlflow_iris.tracking``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands; none in other projects."""
        return super().list_commands(ctx) if project_uses_tracking() else []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command when it is called."""
        if cmd_name in COMMANDS and project_uses_tracking():
            return super().get_command(ctx, cmd_name)
        return None


commands = TrackingCommands(name="mlflow-iris", lazy_subcommands=COMMANDS)
