"""An MLflow server in a thread of this process; a test can break its requests."""

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

Fault = int | str | Callable[[], None]
IDS = r"(?<=/)(m-)?[0-9a-f]{32}(?=/|$)|(?<=/)\d+(?=/|$)"


class LocalServer:
    """A real MLflow server on loopback.

    Args:
        folder: Where ``server.db`` and ``artifacts`` go.
        empty_store: A migrated database without runs, which is copied.
    """

    def __init__(self, folder: Path, empty_store: Path) -> None:
        import mlflow
        from mlflow.server import app, handlers
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *_) -> None:
                pass

        folder.mkdir()
        shutil.copy(empty_store, folder / "server.db")
        self.folder, self.database = folder, f"sqlite:///{folder / 'server.db'}"
        self.requests: list[str] = []
        self._faults: list[tuple[str, Fault]] = []
        self._undone: list[dict] = []
        os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
        os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = str(folder / "artifacts")
        handlers._tracking_store = handlers._model_registry_store = None
        handlers._artifact_repo = None
        handlers.initialize_backend_stores(self.database, None, "mlflow-artifacts:/")
        mlflow.set_tracking_uri(None)  # which the server has set
        mlflow.set_registry_uri(None)
        self._app = app
        options = {"threaded": True, "request_handler": Silent}
        self._server = make_server("127.0.0.1", 0, self._answer, **options)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def break_next(self, request: str, fault: Fault, times: int = 1) -> None:
        """Break the next requests of this kind, such as ``POST runs/create``.

        Args:
            request: Method and path without ids; a regular expression.
            fault: ``dropped``: not done, no answer; ``lost``: done, no answer;
                ``later``: no answer, done by ``do_the_rest``; a number: this HTTP
                status, not done; a function: is called before the request is done.
            times: How many requests it breaks.
        """
        self._faults += [(request, fault)] * times

    def repair(self) -> None:
        """Break no more requests."""
        self._faults.clear()

    def do_the_rest(self) -> None:
        """Do the requests that were left for later."""
        while self._undone:
            self._do(self._undone.pop(0))

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _answer(self, environ: dict, start_response):
        name = request_name(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        self.requests.append(name)
        fault = self._fault_of(name)
        if callable(fault):
            fault()
        elif isinstance(fault, int):
            status = HTTPStatus(fault)
            start_response(f"{fault} {status.phrase}", [("Content-Length", "0")])
            return []
        elif fault:
            if fault == "lost":
                self._do(environ)
            if fault == "later":
                length = int(environ.get("CONTENT_LENGTH") or 0)
                body = environ["wsgi.input"].read(length)
                self._undone.append({**environ, "body": body})
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        return self._app(environ, start_response)

    def _fault_of(self, name: str) -> Fault | None:
        for item in self._faults:
            if re.fullmatch(item[0], name):
                self._faults.remove(item)
                return item[1]
        return None

    def _do(self, environ: dict) -> None:
        from io import BytesIO

        if (body := environ.pop("body", None)) is not None:
            environ["wsgi.input"] = BytesIO(body)
        list(self._app(environ, lambda *_: lambda _: None))


def request_name(method: str, path: str) -> str:
    """Return method and path without the ids of one run: ``POST runs/create``."""
    path = re.sub(r"^/api/\d\.\d/(mlflow/)?", "", path)
    return f"{method} {re.sub(IDS, '*', path)}"
