"""Where runs go, and what a command says when they cannot.

``tests/unit/test_store.py`` has each kind of refusal.
"""

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import (
    METRICS,
    free_port,
    recorded,
    run,
    tracking_server,
)

PART = "--pipelines=data_engineering"


def refusal(kedro, project: Path, uri: str) -> str:
    """Run where tracking cannot work; return the one line that says what to do."""
    start = time.monotonic()
    result = kedro("run", cwd=project, ok=False, MLFLOW_TRACKING_URI=uri)
    assert result.returncode == 1
    assert time.monotonic() - start < 20
    assert not (project / "data" / "02_intermediate" / "train.parquet").exists()
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_server_that_is_down(kedro_process, project):
    line = refusal(kedro_process, project, f"http://127.0.0.1:{free_port()}")
    assert line.startswith("Error: MLflow cannot record runs at http://127.0.0.1")
    assert "MLFLOW_TRACKING_URI" in line


def test_credentials_that_are_refused(kedro, project):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(401, "no entry")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        uri = f"http://somebody:secret@127.0.0.1:{refusing.server_port}"
        line = refusal(kedro, project, uri)
        refusing.shutdown()
    assert line.startswith("Error: MLflow cannot record runs at http://127.0.0.1")
    assert "401" in line and "secret" not in line


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Return a folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="no setpriv: apt-get install util-linux"
)
def test_a_folder_that_is_read_only(bin_, generated, reachable):
    project = shutil.copytree(generated, reachable / generated.name)
    if os.getuid() != 0:
        project.chmod(0o500)
        drop = ()
    else:  # root may write anywhere: run as nobody
        drop = ("setpriv", "--reuid=65534", "--clear-groups")
        probe = subprocess.run([*drop, bin_ / "python", "-c", "import kedro"])
        if probe.returncode:
            pytest.skip("another user cannot run this Python: put it where all can")
    result = run(
        *drop, bin_ / "kedro", "run", cwd=project, ok=False, HOME="/nonexistent"
    )
    project.chmod(0o700)
    assert result.returncode == 1
    assert "MLflow cannot record runs" in result.stderr.strip().splitlines()[-1]


def test_an_experiment_that_was_deleted(kedro, project_with_store, bin_, fork):
    uri = f"sqlite:///{project_with_store / 'mlflow.db'}"

    def experiments(action: str) -> None:
        words = (bin_ / "mlflow", "experiments", action, "-x", "1")
        fork.run(*words, cwd=project_with_store, MLFLOW_TRACKING_URI=uri)

    kedro("run", PART, cwd=project_with_store)
    experiments("delete")
    result = kedro("run", cwd=project_with_store, ok=False)
    assert result.returncode == 1
    assert "mlflow experiments restore -x 1" in result.stderr.strip().splitlines()[-1]
    experiments("restore")
    kedro("run", PART, cwd=project_with_store)


def test_a_server_records_everything(
    kedro, project_with_store, bin_, empty_store, tmp_path
):
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "server.db")
    with tracking_server(bin_, folder, free_port()) as (url, _):
        kedro("run", cwd=project_with_store, MLFLOW_TRACKING_URI=url)
    (one,) = recorded(folder, "server.db")
    assert one.status == "FINISHED" and METRICS <= set(one.metrics)
    saved = {path.name for path in (folder / "artifacts").rglob("*")}
    assert {"iris.csv", "confusion_matrix.png", "model.skops"} <= saved


def test_files_that_workers_save_are_artifacts(kedro, project_with_store):
    catalog = project_with_store / "conf" / "base" / "catalog.yml"
    entry = "  metadata: {kedro-viz: {layer: model_output}}\n"
    named = "  versioned: true\n  metadata: {mlflow: {artifact_path: output}}\n"
    text = catalog.read_text()
    assert text.count(entry) == 1
    catalog.write_text(text.replace(entry, named))
    kedro("run", "--runner=ParallelRunner", cwd=project_with_store)
    (one,) = recorded(project_with_store)
    files = {"output/predictions.parquet", "figures/confusion_matrix.png"}
    assert files <= one.artifacts
    folder = project_with_store / "data" / "07_model_output" / "predictions.parquet"
    (saved,) = folder.iterdir()
    assert saved.name == one.tags["kedro.run_id"]


LOAD = """
import mlflow
runs = mlflow.search_runs(search_all_experiments=True, output_format='list')
run = min(runs, key=lambda run: run.info.start_time)
kept = mlflow.artifacts.load_text(run.info.artifact_uri + '/data/iris.csv')
assert kept.startswith('sepal_length')
found = mlflow.search_logged_models([run.info.experiment_id], output_format='list')
mine = (m for m in found if m.source_run_id == run.info.run_id)
model = next(m for m in mine if m.name == 'model')
print(mlflow.pyfunc.load_model(model.model_uri).metadata.signature)
"""


def artifacts_of(project) -> set[str]:
    return {str(path.relative_to(project)) for path in (project / "mlruns").rglob("*")}


def test_a_copy_of_a_project_opens_its_runs_and_leaves_the_original_alone(
    kedro, project_with_store, bin_, fork, tmp_path
):
    kedro("run", cwd=project_with_store)
    copy = shutil.copytree(project_with_store, tmp_path / "copied there")
    before = artifacts_of(project_with_store)
    kedro("run", cwd=copy)
    assert artifacts_of(project_with_store) == before
    assert len(recorded(project_with_store)) == 1
    assert artifacts_of(copy) > before
    assert {one.status for one in recorded(copy)} == {"FINISHED"}
    project_with_store.rename(tmp_path / "away")  # nothing is read from there
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{copy / 'mlflow.db'}"}
    loaded = fork.run(bin_ / "python", "-c", LOAD, cwd=copy, **store)
    assert "petal_width" in loaded.stdout
