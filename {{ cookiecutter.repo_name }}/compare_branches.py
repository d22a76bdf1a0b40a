"""Compares the pipeline's outcome here with that of another branch.

python compare_branches.py origin/main                  the report on the terminal
python compare_branches.py origin/main --store FOLDER   and both runs stay in FOLDER

Both branches run into a store of their own, so that the project's runs and its champion
stay as they are. The workflow in .github/ does the same for each pull request.

Exit status: 0; 1 if the metric that decides about promotion has fallen by more than
`promote_options.margin` and --accept-worse is not given; 2 if there is no answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_IN_GIT = ("conf/local", "data/01_raw")  # what a run reads, and git may not keep
REQUIREMENTS = "requirements.txt"
MAX_CELLS = 900  # of a table that can be read
KEDRO = ("-m", "kedro")


def call(*words: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    """Run a command here and return what it prints; exit with 2 if it fails."""
    command = [*map(str, words)]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    if done.returncode not in ok:
        print(f"`{' '.join(command)}` has failed.", file=sys.stderr)
        raise SystemExit(2)
    return done.stdout


def lay_out(branch: str, folder: Path) -> Path:
    """Check out a branch into a new folder; return the project in it."""
    call("git", "worktree", "add", "--quiet", "--detach", folder, branch)
    project = folder / call("git", "rev-parse", "--show-prefix").strip()
    for name in NOT_IN_GIT:
        if (HERE / name).is_dir():
            shutil.copytree(
                HERE / name, project / name, copy_function=link, dirs_exist_ok=True
            )
    return project


def link(source: str, target: str) -> None:
    """Make a file available in another folder, unless it is there already."""
    if not os.path.exists(target):
        try:
            os.symlink(source, target)
        except OSError:  # Windows lets few users make links
            shutil.copy2(source, target)


def environment_of(project: Path, folder: Path) -> Path:
    """Return the Python with a branch's packages: this one, if they are the same."""
    if (project / REQUIREMENTS).read_text() == (HERE / REQUIREMENTS).read_text():
        return Path(sys.executable)
    call(sys.executable, "-m", "venv", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    call(python, "-m", "pip", "install", "--quiet", "-r", project / REQUIREMENTS)
    return python


def run_pipeline(python: Path, project: Path) -> dict | None:
    """Run the pipeline; return its run, or None if it fails."""
    command = [str(python), *KEDRO, "run"]
    if subprocess.run(command, cwd=project, stdout=sys.stderr).returncode:
        return None
    found = call(sys.executable, *KEDRO, "runs", "--last=1", "--format=json")
    return json.loads(found)[0]


def compare_metric(base: dict, here: dict) -> tuple[str, bool]:
    """Say what has become of the metric that decides, and whether that is too bad."""
    options = ("metric", "better", "margin")
    given = [here["parameters"][f"promote_options.{name}"] for name in options]
    metric, better, margin = given
    then, now = base["metrics"].get(metric), here["metrics"].get(metric)
    if then is None or now is None:
        where = "here" if now is None else "there"
        return f"**{metric}** was not measured {where}.", now is None
    lost = round((then - now) * (1 if better == "more" else -1), 12)
    worse = lost > float(margin)
    said = f"**{metric}**: {then:.4g} there, {now:.4g} here."
    return said + f" It is worse by more than {margin}." * worse, worse


def confusion_matrix(project: Path) -> str:
    """Return how often each label was taken for which, as a table of Markdown."""
    import pandas as pd
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(HERE)
    from {{ cookiecutter.python_package }} import schema

    with KedroSession.create(project) as session:
        catalog = session.load_context().catalog  # type: ignore[attr-defined]
    truth, predicted = (
        catalog.load(name)[schema.TARGET].map(str) for name in ("test", "predictions")
    )
    counts = pd.crosstab(truth, predicted)
    if counts.size > MAX_CELLS:
        return f"There are too many labels to show: {len(counts)}."
    rows = [["true \\ predicted", *counts.columns], ["---"] * (len(counts.columns) + 1)]
    rows += [[str(label), *map(str, row)] for label, row in counts.iterrows()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def compare(branch: str, folder: Path) -> tuple[str, bool]:
    """Run both branches; return the report, and whether this one is too bad."""
    project = lay_out(branch, folder / "branch")
    base = run_pipeline(environment_of(project, folder / "environment"), project)
    here = run_pipeline(Path(sys.executable), HERE)
    if not here:
        print("The pipeline fails here: what it said is above.", file=sys.stderr)
        raise SystemExit(2)
    if not base:
        return f"The pipeline of `{branch}` fails: nothing to compare with.", False
    said, worse = compare_metric(base, here)
    diff = (*KEDRO, "runs", "diff", base["run_id"], here["run_id"], "--format=md")
    parts = [
        f"## Compared with `{branch}`",
        said,
        call(sys.executable, *diff, ok=(0, 1)).strip(),
        f"### Confusion matrix of `{branch}`",
        confusion_matrix(project),
        "### Confusion matrix here",
        confusion_matrix(HERE),
    ]
    return "\n\n".join(parts), worse


def main() -> int:
    """Print the report; return the exit status."""
    about = "Compare the pipeline's outcome here with that of another branch."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("branch", help="a branch or commit, such as origin/main")
    parser.add_argument("--store", type=Path, help="where the runs stay")
    parser.add_argument("--summary", type=Path, help="a file to add the report to")
    parser.add_argument("--accept-worse", action="store_true", help="never exit with 1")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        store = (given.store or Path(name, "store")).resolve()
        store.mkdir(parents=True, exist_ok=True)
        for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PYTHONPATH"):
            os.environ.pop(variable, None)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store.as_posix()}/mlflow.db"
        os.environ["MLFLOW_EXPERIMENT_NAME"] = "comparison"
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Kedro's log
                report, worse = compare(given.branch, Path(name))
        finally:
            worktree = ("git", "worktree", "remove", "--force", f"{name}/branch")
            subprocess.run(worktree, cwd=HERE, capture_output=True)
    if worse and given.accept_worse:
        report += "\n\nThat it is worse was accepted."
    print(report)
    if given.summary:
        with given.summary.open("a", encoding="utf-8") as file:
            file.write(f"{report}\n")
    return int(worse and not given.accept_worse)


if __name__ == "__main__":
    sys.exit(main())
