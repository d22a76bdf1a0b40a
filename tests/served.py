"""A registered model, served, and ways to ask it."""

import json
import urllib.error
import urllib.request
from contextlib import contextmanager

from runs import PACKAGE, free_port, path_of, run, serving

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.9, 3.1, 5.4, 2.1]
CHAMPION = f"models:/{PACKAGE}@champion"
JSON, CSV = "application/json", "text/csv"


def store(project) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}


def on_path(bin_) -> dict[str, str]:
    return {"PATH": path_of(bin_)}


@contextmanager
def serve(bin_, project, uri: str, manager: str = "local"):
    """Serve a model on a free port, and yield a function that asks it."""
    port, log = free_port(), project / "serve.log"
    words = [bin_ / "mlflow", "models", "serve", "-m", uri, "-p", port]
    words += ["--host=127.0.0.1", f"--env-manager={manager}"]
    env = store(project) | on_path(bin_)

    def ask(body=b"", mime: str | None = JSON, path: str = "/invocations"):
        if isinstance(body, dict):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        url = f"http://127.0.0.1:{port}{path}"
        headers = {"Content-Type": mime}
        request = urllib.request.Request(url, data or None, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    with serving(*words, port=port, log=log, health="ping", cwd=project, **env):
        yield ask


def split(*rows, columns=COLUMNS) -> dict:
    return {"dataframe_split": {"columns": columns, "data": rows}}


def champion(bin_, project, code: str, run=run, **changes: str) -> str:
    """Run code that finds a client and the champion's version; return its output.

    ``run`` may be that of a ``ForkServer``.
    """
    lines = ["import mlflow", "client = mlflow.MlflowClient()"]
    version = f"client.get_model_version_by_alias({PACKAGE!r}, 'champion')"
    script = "\n".join([*lines, f"version = {version}", code])
    command = (bin_ / "python", "-c", script)
    return run(*command, cwd=project, **store(project), **changes).stdout.strip()
