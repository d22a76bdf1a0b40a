"""A pipeline that pauses in its second node while a test breaks something."""

import os
import re
import time
from pathlib import Path

from faults import LIMIT, NEXT
from runs import PACKAGE, path_of, run, start

# Put at the head of train_model: it waits for the test, and raises if it is asked to.
PAUSE = """
    import os, pathlib, time
    signs = pathlib.Path(os.environ["SIGNS"])
    (signs / "ready").touch()
    while not (signs / "go").exists():
        time.sleep(0.1)
    if "RAISE" in os.environ:
        raise ValueError("boom")
"""
STATUS_IS_PENDING = "RUNNING|could not be told"  # what the log says then


def pause_training(project: Path) -> Path:
    """Have ``train_model`` of a project wait for ``PausedRun.go_on``."""
    nodes = project / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    head, mark, tail = nodes.read_text().partition("    model = make_pipeline(")
    assert mark
    nodes.write_text(head + PAUSE.lstrip("\n") + mark + tail)
    return project


class PausedRun:
    """A run, in a process of its own, that waits in its second node.

    Args:
        signs: A new folder for its log and for the files that start and stop it.
        words: The command.
        cwd: A project that ``pause_training`` has edited.
        env: Environment variables.
    """

    def __init__(self, signs: Path, *words, cwd: Path, **env: str) -> None:
        signs.mkdir()
        self.signs, self.log = signs, signs / "log"
        options = {"SIGNS": str(signs), "COLUMNS": "300", **env}
        with self.log.open("w") as output:
            self.process = start(*words, cwd=cwd, output=output, **options)
        self.wait_for((signs / "ready").exists)

    def wait_for(self, condition) -> None:
        """Return when a condition is met; fail after two minutes."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def go_on(self) -> None:
        """Let the node continue."""
        (self.signs / "go").touch()

    def says(self, pattern: str) -> bool:
        """Tell whether the log has a line like this."""
        return re.search(pattern, self.log.read_text()) is not None

    def all_ended(self) -> bool:
        """Tell whether no process of it is left, its orphans included."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def next_start(bin_: Path, project: Path, **env: str) -> None:
    """Start the next run in the folder."""
    run(bin_ / NEXT[0], *NEXT[1:], cwd=project, PATH=path_of(bin_), **env)
