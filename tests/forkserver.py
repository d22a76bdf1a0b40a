"""A process that has the libraries loaded, and forks for each command.

It reads a command a line from standard input, as JSON: ``words``, ``cwd``, ``env``, and
the files ``out``, ``err`` and ``status``. A child runs the command and leaves as Python
leaves, exit handlers included; its parent, forked too, writes what ``waitpid`` says.
"""

# ruff: noqa: F401
import scipy.special  # isort: skip -- first, as in a project's run
import gc
import inspect
import json
import os
import random
import runpy
import signal
import sys
from pathlib import Path

import alembic.command
import IPython
import kedro.config
import kedro.framework.cli.project
import kedro.framework.session
import kedro.validation
import kedro_datasets.json
import kedro_datasets.matplotlib
import kedro_datasets.pandas
import kedro_datasets.pickle
import kedro_telemetry.plugin
import matplotlib.backends.backend_agg
import mlflow.cli
import mlflow.projects
import mlflow.sklearn
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
import numpy
import pyarrow.csv
import pyarrow.parquet
import pytest
import sklearn.calibration
import sklearn.experimental.enable_halving_search_cv
import sklearn.inspection
import skops.io
import sqlalchemy.dialects.sqlite


def become(request: dict) -> None:
    """Make this process the one that a shell would have started."""
    os.setsid()
    for number, name in enumerate((os.devnull, request["out"], request["err"])):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(name, flags), number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    numpy.random.seed()


def execute(words: list[str]) -> None:
    """Run ``kedro``, ``mlflow``, or ``python`` with ``-c``, ``-m`` or a script."""
    program, path = Path(words[0]).name, os.environ.get("PYTHONPATH", "")
    # Kedro's handler looks at COLUMNS when it is made: at import.
    logs = kedro.framework.project.LOGGING
    logs.__init__() if program == "kedro" else logs.configure(dict(logs.data))
    sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
    sys.path[1:1] = filter(None, path.split(os.pathsep))
    if program == "kedro":
        kedro.framework.cli.main()
    elif program == "mlflow":
        mlflow.cli.cli()
    elif words[1] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[3:]], ""
        exec(compile(words[2], "<string>", "exec"), {"__name__": "__main__"})
    elif words[1] == "-m":
        sys.argv, sys.path[0] = words[2:], os.getcwd()
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words[1:], str(Path(words[1]).parent)
        runpy.run_path(words[1], run_name="__main__")


def tell(file: str, number: int) -> None:
    """Write a number into a file, which is complete once it is there."""
    part = Path(f"{file}.part")
    part.write_text(str(number))
    part.rename(file)


def serve() -> dict | None:
    """Fork for each request, and return it in the child that is to run it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request = json.loads(line)
        if not (child := os.fork()):
            return request
        tell(f"{request['status']}.pid", child)
        _, status = os.waitpid(child, 0)
        tell(request["status"], os.waitstatus_to_exitcode(status))
        os._exit(0)
    return None


if __name__ == "__main__":
    # What each command would find out for itself about what is loaded.
    inspect.stack()
    mlflow.utils.requirements_utils._init_packages_to_modules_map()
    gc.collect()
    gc.freeze()  # children share this memory
    if request := serve():
        become(request)
        execute(request["words"])
