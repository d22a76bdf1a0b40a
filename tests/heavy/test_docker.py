"""The image of a project, built and run."""

import shutil
import subprocess

import pytest
from runs import PACKAGE, recorded, run


def test_the_image_is_built_and_runs(project, tmp_path):
    if not shutil.which("docker") or subprocess.run(["docker", "info"]).returncode:
        pytest.skip("no Docker engine: apt-get install docker.io")
    tag = f"{PACKAGE}-test"
    run("docker", "build", "--quiet", "--tag", tag, ".", cwd=project)
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o777)
    uri = "MLFLOW_TRACKING_URI=sqlite:////store/store.db"
    words = ("docker", "run", "--rm", f"--volume={store}:/store", "--env", uri, tag)
    run(*words, cwd=project)
    (one,) = recorded(store, "store.db")
    assert one.status == "FINISHED"
    run("docker", "rmi", tag, cwd=project)
