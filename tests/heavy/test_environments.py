"""`mlflow run` builds environments of its own: uv, virtualenv with pyenv, conda."""

import os
import platform
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from bare_shell import PYTHON, BareShell
from runs import run


@pytest.fixture
def shell(bin_, tmp_path, empty_store):
    return BareShell(bin_ / "mlflow", tmp_path, empty_store)


def conda_home() -> str | None:
    """Return the folder of a real conda."""
    conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
    if not conda:
        return None
    base = [conda, "info", "--base"]
    return subprocess.run(base, capture_output=True, text=True).stdout.strip() or None


def remove_environments(conda: str, folder: Path) -> None:
    """Have conda remove and forget its environments in a folder."""
    for made in folder.iterdir():
        run(conda, "env", "remove", "--yes", f"--prefix={made}", cwd=folder, ok=False)


def pyenv_has(version: str) -> bool:
    """Whether pyenv can give this interpreter without compiling it."""
    if not shutil.which("pyenv"):
        return False
    root = subprocess.run(["pyenv", "root"], capture_output=True, text=True)
    return Path(root.stdout.strip(), "versions", version, "bin", "python").exists()


@pytest.mark.parametrize("manager", ["uv", "virtualenv", "conda"])
def test_it_runs_in_an_environment_of_its_own(shell, project, manager, request):
    own = shell.home / "environments"
    own.mkdir()
    env, after = {"MLFLOW_ENV_ROOT": str(own), "PIP_NO_COMPILE": "1"}, ""
    if manager == "uv":
        shell.add("uv", PYTHON)
    elif manager == "virtualenv":
        if not pyenv_has(platform.python_version()):
            pytest.skip(f"no pyenv with it: pyenv install {platform.python_version()}")
        after = os.pathsep.join([str(Path(shutil.which("pyenv")).parent), os.defpath])
    else:
        if not (home := conda_home()):
            pytest.skip("no conda: install Miniforge, and put conda on PATH")
        env = {"MLFLOW_CONDA_HOME": home, "CONDA_ENVS_DIRS": str(own)}
        # conda's list of environments is the user's: MLflow names them by the text of
        # this file, so that no other is used, and what was made is taken off it.
        with (project / "conda.yaml").open("a") as file:
            file.write(f"# {uuid.uuid4()}\n")
        request.addfinalizer(lambda: remove_environments(f"{home}/bin/conda", own))
    said, status = shell.run(
        *(".", "--env-manager", manager, "-P", "C=0.5"),
        cwd=project,
        after=after,
        **env,
    )
    assert status == 0, said[-4000:]
    (one,) = shell.runs()
    assert (one.status, one.tags["mlflow.project.env"]) == ("FINISHED", manager)
    assert one.params["C"] == one.params["model_options.C"] == "0.5"
    assert one.metrics["accuracy"] >= 0.9
    assert Path(one.tags["python.executable"]).is_relative_to(own)
    assert one.tags["python.version"] == platform.python_version()


def test_what_conda_yaml_forgets_is_missing(shell, bin_, project):
    """The launching environment has it, and does not help."""
    run(bin_ / "python", "-c", "import kedro_datasets", cwd=project)
    file = project / "conda.yaml"
    kept = [line for line in file.read_text().splitlines() if "datasets" not in line]
    file.write_text("\n".join(kept))
    shell.add("uv", PYTHON)
    own = shell.home / "environments"
    said, status = shell.run(
        *(".", "--env-manager", "uv"), cwd=project, MLFLOW_ENV_ROOT=str(own)
    )
    assert status == 1
    assert [one.status for one in shell.runs()] == ["FAILED"]
    assert "kedro-datasets" in said
    (made,) = own.iterdir()
    has = "import importlib.util as i; print(i.find_spec('kedro_datasets'))"
    assert run(made / "bin" / "python", "-c", has, cwd=own).stdout.strip() == "None"
