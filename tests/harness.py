"""Commands run by a process that has the libraries loaded and forks for each."""

import json
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

    def __init__(self, words: list[str], folder: Path) -> None:
        self.args, name = words, uuid.uuid4().hex
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.status = folder / f"{name}.status"
        self.returncode: int | None = None

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

    def start(self, *command, cwd: Path, **changes: str) -> Forked:
        """Start a command in the clean environment."""
        words = [str(word) for word in command]
        forked = Forked(words, self._folder)
        request = {
            "words": words,
            "cwd": str(cwd),
            "env": clean_environment(**changes),
            "out": str(forked.out),
            "err": str(forked.err),
            "status": str(forked.status),
        }
        if not self._process:
            self._process = subprocess.Popen(
                [sys.executable, SERVER],
                stdin=subprocess.PIPE,
                env=clean_environment(),
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
