"""Ways to launch a generated project's pipeline, and to read what was recorded."""

import os
import sqlite3
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from conftest import PACKAGE, run

METRICS = {"accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss"}

# Put at the head of train_model: what a test asks the node to do.
BEHAVIOUR = """
    import os, pathlib, time
    match os.environ.get("BEHAVIOUR"):
        case "raise":
            mlflow.log_metric("before_failure", 1.0)
            raise ValueError("boom")
        case "wait":
            pathlib.Path(os.environ["READY"]).touch()
            time.sleep(90)
        case "nested":
            mlflow.start_run(nested=True, run_name="left open")
        case "ended":
            mlflow.end_run()
"""
SESSION = """
import os, sys, mlflow
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(os.environ["PROJECT"])
def session_run():
    with KedroSession.create(os.environ["PROJECT"]) as session:
        session.run()
"""


@dataclass
class Run:
    """What a tracking database says of a run."""

    id: str
    status: str
    experiment: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: set[str] = field(default_factory=set)


def recorded(project: Path, database: str = "mlflow.db") -> list[Run]:
    """Read all runs of a SQLite store, oldest first."""
    with sqlite3.connect(project / database) as db:
        rows = db.execute(
            "SELECT run_uuid, status, e.name, r.name, artifact_uri FROM runs r"
            " JOIN experiments e USING (experiment_id) ORDER BY start_time"
        ).fetchall()
        found = []
        for id_, status, experiment, name, folder in rows:
            tables = [
                dict(db.execute(f"SELECT key, value FROM {t} WHERE run_uuid=?", [id_]))
                for t in ("tags", "params", "latest_metrics")
            ]
            base = Path(folder.removeprefix("file://"))
            files = {str(f.relative_to(base)) for f in base.rglob("*") if f.is_file()}
            found.append(Run(id_, status, experiment, name, *tables, files))
    return found


def command(launcher: str, bin_: Path, project: Path) -> tuple[list[str], dict]:
    """Return the words and the environment of a way to run the pipeline."""
    kedro, python = str(bin_ / "kedro"), str(bin_ / "python")
    mlflow_run = [str(bin_ / "mlflow"), "run", str(project), "--env-manager", "local"]
    env = {
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "PROJECT": str(project),
        "READY": str(project / "data" / "ready"),
        "PYTHONPATH": str(project / "src"),
    }
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}"}
    named = {"MLFLOW_EXPERIMENT_NAME": "elsewhere"}
    words, extra = {
        "sequential": ([kedro, "run"], {}),
        "async": ([kedro, "run", "--async"], {}),
        "thread": ([kedro, "run", "--runner=ThreadRunner"], {}),
        "thread async": (
            [kedro, "run", "--runner=ThreadRunner", "--runner-params=max_workers=3"],
            {},
        ),
        "parallel": ([kedro, "run", "--runner=ParallelRunner"], {}),
        "parallel spawn": (
            [kedro, "run", "--runner=ParallelRunner"],
            {"KEDRO_MP_CONTEXT": "spawn"},
        ),
        "parallel forkserver": (
            [kedro, "run", "--runner=ParallelRunner"],
            {"KEDRO_MP_CONTEXT": "forkserver"},
        ),
        "module": ([python, "-m", PACKAGE], {}),
        "session": ([python, "-c", SESSION + "session_run()"], {}),
        "caller's run": (
            [
                python,
                "-c",
                SESSION + "with mlflow.start_run(run_name='mine'):\n  session_run()",
            ],
            uri,
        ),
        "mlflow run": (mlflow_run, uri),
        "mlflow run --experiment-name": (
            [*mlflow_run, "--experiment-name", "given"],
            uri | named,
        ),
        "mlflow run --run-name": ([*mlflow_run, "--run-name", "given"], uri),
        "MLFLOW_EXPERIMENT_NAME": (mlflow_run, uri | named),
    }[launcher]
    return words, env | extra


def launch(launcher, bin_, project, **changes: str) -> subprocess.CompletedProcess:
    words, env = command(launcher, bin_, project)
    return run(*words, cwd=project, ok=False, **{**env, **changes})
