"""The image of a project, and what goes into it."""

import shutil
from pathlib import Path

from docker.utils.build import exclude_paths
from runs import PACKAGE, path_of, recorded

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


def test_what_goes_into_the_image_is_enough_to_run(
    project, fork, bin_, empty_store, tmp_path
):
    image = tmp_path / "image"
    for name in sent(project):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / name, image / name)
    shutil.copy(empty_store, tmp_path / "store.db")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/store.db"}
    fork.run(bin_ / "kedro", "run", cwd=image, PATH=path_of(bin_), **env)
    (one,) = recorded(tmp_path, "store.db")
    assert one.status == "FINISHED" and one.experiment == PACKAGE
