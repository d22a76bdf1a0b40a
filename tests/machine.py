"""A machine for check.py: a project, tools, packages, and servers to ask."""

import contextlib
import http.server
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

REQUIREMENTS = """\
kedro[pydantic]>=1.7,<2
mlflow>=3.17,<4  # tracking
pandas>=2.2,<4
scikit-learn>=1.7,<2
"""
INSTALLED = {
    "kedro": "1.7.0",
    "mlflow": "3.17.2",
    "pandas": "3.1",
    "scikit-learn": "1.9.1",
}
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
INSTALL = "pip install -r requirements.txt"
BROUGHT = ("packaging", "yaml")  # by Kedro and MLflow


def make_environment(folder: Path) -> None:
    """Make ``bin/python3`` a virtual environment with what the check imports."""
    (folder / "pyvenv.cfg").write_text(
        f"home = {PYTHON.parent}\ninclude-system-site-packages = false\n"
    )
    version = "python{}.{}".format(*sys.version_info)
    site = folder / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    link_packages(site)


def link_packages(site: Path) -> None:
    """Put what Kedro and MLflow bring, and the check imports, into a folder."""
    for name in BROUGHT:
        spec = find_spec(name)
        assert spec and spec.origin
        (site / name).symlink_to(Path(spec.origin).parent)


Answer = tuple[int, str, str]  # exit status, output, standard error


class Machine:
    """A project, on a machine with no tools and packages but those a test adds."""

    def __init__(self, home: Path, generated: Path):
        self.project = home / "Äpfel & Birnen" / "iris-flowers"
        self.bin, self.site = home / "bin", home / "site"
        for folder in (self.project / "conf/base", self.bin, self.site):
            folder.mkdir(parents=True)
        shutil.copy(generated / "check.py", self.project)
        (self.project / "src").symlink_to(generated / "src")
        self.python = self.bin / "python3"
        (self.project / "requirements.txt").write_text(REQUIREMENTS)
        for package, version in INSTALLED.items():
            self.install(package, version)
        link_packages(self.site)
        (self.site / "pip").mkdir()
        self.python.symlink_to(PYTHON)
        self.env = {"PATH": str(self.bin), "PYTHONPATH": str(self.site)}
        self.output, self.said = "", ""

    def settings(self, text: str, env: str = "base") -> None:
        folder = self.project / "conf" / env
        folder.mkdir(exist_ok=True)
        (folder / "mlflow.yml").write_text(text, "utf-8", newline="")

    def install(self, package: str, version: str) -> None:
        name = package.replace("-", "_")
        for old in self.site.glob(f"{name}-*"):
            shutil.rmtree(old)
        if version:
            folder = self.site / f"{name}-{version}.dist-info"
            folder.mkdir()
            text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            (folder / "METADATA").write_text(text)

    def tool(self, path, script: str = "") -> Path:
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def conda(self, home: Path) -> Path:
        for file in ("bin/conda", "bin/activate", "etc/profile.d/conda.sh"):
            self.tool(home / file)
        return home

    def check(self, *arguments: str, expect: int = 0, **env: str) -> None:
        """Run the check where no packages are installed but this machine's."""
        self.expect(self.answer(arguments, self.env | env), expect, arguments)

    def check_with_mlflow(self, *arguments: str, expect: int = 0, **env: str) -> None:
        """Run the check with the libraries of these tests, which have MLflow."""
        silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": ""}
        silent["PYTHONDONTWRITEBYTECODE"] = "1"  # the rendered project stays as it is
        answer = self.answer_with_mlflow(arguments, self.env | silent | env)
        self.expect(answer, expect, arguments)

    def answer(self, arguments: tuple[str, ...], env: dict[str, str]) -> Answer:
        """Return what a process answers that has no site-packages."""
        return self.run(self.python, "-S", "check.py", *arguments, env=env)

    def answer_with_mlflow(
        self, arguments: tuple[str, ...], env: dict[str, str]
    ) -> Answer:
        """Return what a process of the interpreter of these tests answers."""
        return self.run(sys.executable, "check.py", *arguments, env=env)

    def run(self, *words: object, env: dict[str, str]) -> Answer:
        """Run a command in the project, in a process of its own."""
        done = subprocess.run(
            list(map(str, words)),
            cwd=self.project,
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def expect(
        self, answer: Answer, status: int, arguments: tuple[str, ...] = ()
    ) -> None:
        """Keep what was printed; only ``--exports`` says a line on standard error."""
        returned, self.output, self.said = answer
        assert returned == status, answer
        assert self.said.startswith("config.sh: ") == ("--exports" in arguments), answer
        assert self.said.count("\n") == len(self.said[:1])

    def exports(self, **env: str) -> dict[str, str]:
        """Return what config.sh would export, but MLFLOW_HTTP_...; ``said`` is kept."""
        self.check("--exports", **env)
        words = [word for word in shlex.split(self.output) if word != "export"]
        return dict(word.split("=", 1) for word in words if "_HTTP_" not in word)

    def line(self, tool: str) -> str:
        """Return the line of the table for a tool, single-spaced."""
        rows = (" ".join(row.split()) for row in self.output.splitlines())
        return next(row for row in rows if f" {tool} " in row[: len(tool) + 6])

    @property
    def steps(self) -> list[str]:
        """Return the commands that it says are next."""
        return [row.strip() for row in self.output.split("Next:\n")[1].splitlines()]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers MLflow's question, and refuses it below some paths."""

    asked: list[str] = []

    def do_POST(self):
        self.asked.append(self.path)
        place = self.path.removesuffix("/api/2.0/mlflow/experiments/search")
        given = self.headers["Authorization"] == "Basic bWU6czNjcmV0"
        known = {"": 200, "/401": 401, "/403": 403, "/basic": 200 if given else 401}
        self.send_response(known.get(place, 404))
        self.end_headers()
        self.wfile.write(b"{}" if known.get(place) == 200 else b"No.")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def http_server() -> Iterator[http.server.ThreadingHTTPServer]:
    """Run an HTTP server that answers MLflow's question; it keeps what was asked."""
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,)).start()
        yield running
        running.shutdown()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Listen on a port without ever answering."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
