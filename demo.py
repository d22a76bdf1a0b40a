"""Generate a project into demo/, run it with `mlflow run`, and say what to do next."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DEMO = ROOT / "demo"
PROJECT = DEMO / "iris-flowers"


def step(title: str, *command: str, cwd: Path, **changes: str) -> None:
    """Say what is done, do it with its output shown, and stop if it fails."""
    print(f"\n==> {title}\n    {' '.join(command)}", flush=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    kept["MLFLOW_DISABLE_TELEMETRY"] = "true"
    if status := subprocess.run(command, cwd=cwd, env=kept | changes).returncode:
        sys.exit(f"`{' '.join(command)}` failed with exit status {status}.")


def main() -> None:
    """Generate, run, and report the run that was recorded."""
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    new = ("kedro", "new", f"--starter={ROOT}", "--name=Iris Flowers")
    step("1/2 Generate a project", *new, "--telemetry=no", cwd=DEMO)
    store = f"sqlite:///{PROJECT / 'mlflow.db'}"
    step(
        "2/2 Run it in an environment of its own (the first time takes a minute)",
        *("mlflow", "run", ".", "--env-manager", "uv"),
        cwd=PROJECT,
        MLFLOW_TRACKING_URI=store,
        MLFLOW_EXPERIMENT_NAME="iris_flowers",
    )
    with sqlite3.connect(PROJECT / "mlflow.db") as db:
        run_id, accuracy = db.execute(
            "SELECT run_uuid, value FROM runs JOIN latest_metrics USING (run_uuid)"
            " WHERE key = 'accuracy' AND status = 'FINISHED'"
        ).fetchone()
    activate = f"export PATH={ROOT / '.venv' / 'bin'}:$PATH"
    print(
        f"\nAccuracy {accuracy:.3f}, run {run_id}.\n\nNext:\n"
        f"  cd {PROJECT.relative_to(ROOT)} && {activate} && source config.sh\n"
        "  mlflow ui                      # then open http://127.0.0.1:5000\n"
        "  mlflow models serve -m models:/iris_flowers@champion"
        " --env-manager local --port 5001\n"
    )


if __name__ == "__main__":
    main()
