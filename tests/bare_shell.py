"""`mlflow run` in a shell that has nothing on PATH but the tools that a test names."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import recorded, run

# What activation scripts and `git submodule` call.
BASICS = ("basename", "bash", "cat", "dirname", "env", "sed", "uname")
PYTHON = "python{}.{}".format(*sys.version_info)


class BareShell:
    """A shell in which no environment is active, with the tools it is given.

    Args:
        mlflow: The executable, which is not on PATH.
        home: A folder for the tools and the store.
        store: An empty database, which is copied.
        runner: What runs the command: `run` of `runs` or of a `ForkServer`.
    """

    def __init__(self, mlflow: Path, home: Path, store: Path, runner: Callable = run):
        self.mlflow, self.home, self._runner = mlflow, home, runner
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
                pytest.skip(f"no {name}: apt-get install {name}, or pip install {name}")
            (self.tools / name).symlink_to(found)

    def run(self, *words: str, cwd: Path, before: str = "", after: str = "", **env):
        """Call `mlflow run` by its full path; return all that it said, and its status.

        The folders `before` and `after` are put on PATH in front of the tools and
        behind them.
        """
        path = os.pathsep.join(filter(None, [before, str(self.tools), after]))
        env = {**self.env, "PATH": path, **env}
        done = self._runner(self.mlflow, "run", *words, cwd=cwd, ok=False, **env)
        said = " ".join(f"{done.stdout}\n{done.stderr}".split())
        return said, done.returncode

    def runs(self):
        return recorded(self.home)
