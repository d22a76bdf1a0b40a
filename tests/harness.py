"""Commands run by a process that has the libraries loaded and forks for each."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from runs import clean_environment

SERVER = Path(__file__).with_name("forkserver.py")


class Forked:
    """A command that was forked; it has what tests use of a ``Popen``."""

    def __init__(self, words: list[str], folder: Path, output: Path | None) -> None:
        self.args, name = words, uuid.uuid4().hex
        self.out = output or folder / f"{name}.out"
        self.err = output or folder / f"{name}.err"
        self.status = folder / f"{name}.status"
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """The number of the process, which leads a group of its own."""
        file, until = Path(f"{self.status}.pid"), time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until, "the command was not started"
            time.sleep(0.01)
        return int(file.read_text())

    def poll(self) -> int | None:
        """Return the exit status, None while the command runs."""
        if self.returncode is None and self.status.exists():
            self.returncode = int(self.status.read_text())
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Return the exit status when the command has ended."""
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return status

    def completed(self, timeout: float = 600) -> subprocess.CompletedProcess:
        """Return what ``subprocess.run`` would."""
        status = self.wait(timeout)
        said = (file.read_text() for file in (self.out, self.err))
        return subprocess.CompletedProcess(self.args, status, *said)


class ForkServer:
    """Starts and runs ``kedro``, ``mlflow`` and ``python`` by forking.

    Args:
        folder: Where output and exit statuses go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen | None = None

    def start(
        self, *command, cwd: Path, output: Path | None = None, **changes: str
    ) -> Forked:
        """Start a command in the clean environment.

        Args:
            command: Its words.
            cwd: Its working directory.
            output: A file for all that it prints; without one, output and errors go
                into two files.
            changes: Environment variables.
        """
        words = [str(word) for word in command]
        forked = Forked(words, self._folder, output)
        request = {
            "words": words,
            "cwd": str(cwd),
            "env": clean_environment(**changes),
            "out": str(forked.out),
            "err": str(forked.err),
            "status": str(forked.status),
        }
        if not self._process:
            environment = clean_environment()
            # Rich keeps the width that it finds when it is imported; pytest-xdist sets
            # one. Without it, each command has the width of its own environment.
            environment.pop("COLUMNS", None)
            self._process = subprocess.Popen(
                [sys.executable, SERVER],
                stdin=subprocess.PIPE,
                env=environment,
                text=True,
            )
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return forked

    def run(self, *command, cwd: Path, ok: bool = True, **changes: str):
        """Run a command; its output must explain a failure."""
        result = self.start(*command, cwd=cwd, **changes).completed()
        if ok and result.returncode:
            said = f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
            pytest.fail(f"{command} exited {result.returncode}\n{said}")
        return result

    def close(self) -> None:
        """End the server."""
        if self._process:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(30)


Started = tuple[Forked, Path]


def start_eight(
    fork: ForkServer, *command, project: Path, folder: Path, **env: str
) -> list[Started]:
    """Start a command eight times, each in its own copy of the project.

    Returns:
        The processes and their logs, which lie in the folder beside the copies.
    """
    name = Path(command[0]).name
    copies = [shutil.copytree(project, folder / f"{name}{n}") for n in range(8)]
    started = []
    for copy in copies:
        log = copy.with_suffix(".log")
        started.append((fork.start(*command, cwd=copy, output=log, **env), log))
    return started


def check_all_succeed(started: list[Started]) -> None:
    """Wait for processes; their logs must explain a failure."""
    failed = [log for process, log in started if process.wait(600)]
    assert not failed, [(log.name, log.read_text()[-2000:]) for log in failed]
