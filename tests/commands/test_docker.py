"""The image of a project, and what goes into it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from runs import PACKAGE, path_of, recorded, run

SECRETS = (
    "conf/local/credentials.yml",
    "conf/base/credentials.yml",
    ".env",
    "mlflow.db",
)


def sent(project: Path) -> set[str]:
    """Return the files that Docker would send to its engine."""
    patterns = (project / ".dockerignore").read_text().splitlines()
    patterns = [line for line in patterns if not line.startswith("#")]
    return {
        name for name in exclude_paths(project, patterns) if (project / name).is_file()
    }


def test_nothing_local_or_secret_goes_into_the_image(project):
    fresh = sent(project)
    for name in (*SECRETS, ".git/config", "src/.env", "data/06_models/model.pkl"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("swordfish")
    assert sent(project) == fresh
    parts = {Path(name).parts[0] for name in fresh}
    own = {"Dockerfile", ".dockerignore"}  # which Docker itself needs
    assert parts - own == {"conf", "data", "pyproject.toml", "requirements.txt", "src"}


def test_what_goes_into_the_image_is_enough_to_run(project, bin_, tmp_path):
    image = tmp_path / "image"
    for name in sent(project):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / name, image / name)
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/store.db"}
    run(bin_ / "kedro", "run", cwd=image, PATH=path_of(bin_), **env)
    (one,) = recorded(tmp_path, "store.db")
    assert one.status == "FINISHED" and one.experiment == PACKAGE


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
