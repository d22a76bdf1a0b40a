"""Entry point of the installed package, also for ``python -m``."""

import sys
from pathlib import Path

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args, **kwargs):
    """Run the project's pipeline with the options of ``kedro run``."""
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # a notebook must not exit
    return find_run_command(package_name)(*args, **kwargs)


if __name__ == "__main__":
    main()
