"""``tracking`` works in another Kedro project: copied as a folder, and installed."""

import json
import shutil
from pathlib import Path

import orders
import pytest
from mlflow import MlflowClient
from orders import NAME as OTHER
from runs import AUTHOR, PACKAGE, answer, path_of, recorded, run


@pytest.fixture
def tracking(generated) -> Path:
    """Return the package that the projects can share."""
    return generated / "src" / PACKAGE / "tracking"


@pytest.fixture
def project(fork, bin_, empty_store, tmp_path) -> Path:
    """Return a project from Kedro's own template, with an empty store."""
    made = orders.make(fork.run, bin_, tmp_path)
    shutil.copy(empty_store, made / "mlflow.db")
    return made


@pytest.fixture
def other_kedro(fork, bin_, site, project):
    """Return a function that runs ``kedro`` where the library is installed."""

    def command(*words: str, cwd: Path = project, ok: bool = True, **changes: str):
        env = {"PATH": path_of(bin_), "PYTHONPATH": str(site), "COLUMNS": "300"}
        return fork.run(bin_ / "kedro", *words, cwd=cwd, ok=ok, **env, **changes)

    return command


@pytest.mark.parametrize("way", ["copied", "installed"])
def test_tracking_works_in_any_kedro_project(
    way, tracking, fork, bin_, site, project, tmp_path
):
    path = {"PATH": path_of(bin_)}
    if way == "copied":
        shutil.copytree(tracking, project / "src" / OTHER / "tracking")
        orders.add_hooks(project, ".tracking")
    else:
        path["PYTHONPATH"] = str(site)
        orders.add_hooks(project, "mlflow_iris.tracking")
    run("git", "init", "-q", cwd=project)
    run("git", "add", "--all", ":(exclude)mlflow.db", cwd=project)
    run("git", *AUTHOR, "commit", "-qm", "all", cwd=project)
    commit = run("git", "rev-parse", "HEAD", cwd=project).stdout.strip()

    fork.run(bin_ / "kedro", "run", cwd=project, **path)
    (project / "total.json").unlink()
    words = ("run", "--params=vat=-1")
    failed = fork.run(bin_ / "kedro", *words, cwd=project, ok=False, **path)
    assert failed.returncode
    good, bad = recorded(project)
    assert (good.status, bad.status) == ("FINISHED", "FAILED")
    assert (good.params, bad.params) == ({"vat": "0.25"}, {"vat": "-1"})
    assert {"totals/total.json", "environment/packages.txt"} <= good.artifacts
    assert bad.tags["failure.node"] == "sum_up"
    assert "a VAT of -1" in bad.tags["failure.error"]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for one in (good, bad):
        assert one.experiment == OTHER
        assert one.tags["mlflow.source.git.commit"] == commit
        # Kedro's .gitignore knows neither the store nor the locks.
        assert one.tags["git.dirty"] == "false"
        assert one.tags["kedro.pipeline"] == "__default__"
        (used,) = client.get_run(one.id).inputs.dataset_inputs
        assert used.dataset.name == "orders"
        md5 = run("md5sum", "orders.csv", cwd=project).stdout.split()[0]
        assert used.dataset.digest == md5


def commands_listed(printed: str) -> list[str]:
    """Return the commands of the help, as often as they are listed."""
    lines = (line.split() for line in printed.splitlines() if line.startswith("  "))
    return [words[0] for words in lines if words]


OURS = ("runs", "replay", "share", "receive")


def test_the_commands_come_with_the_hooks(other_kedro, project):
    listed = commands_listed(other_kedro("--help").stdout)
    assert not set(OURS) & set(listed)  # this project records nothing yet
    assert other_kedro("runs", ok=False).returncode == 2

    orders.add_hooks(project, "mlflow_iris.tracking")
    listed = commands_listed(other_kedro("--help").stdout)
    assert [listed.count(name) for name in OURS] == [1, 1, 1, 1]
    other_kedro("run")
    said = other_kedro("run", "--params=vat=0.5,taxes=1").stdout
    assert "taxes" in said  # warnings of the library are shown as the project's own
    assert len(answer(other_kedro("runs"))) >= 3
    first, second = recorded(project)
    compared = other_kedro("runs", "diff", first.id, second.id, ok=False)
    assert compared.returncode == 1
    assert "parameters" in compared.stdout and "vat" in compared.stdout
    file = project / "run.zip"
    other_kedro("share", second.id, f"--output={file}")
    assert file.stat().st_size


def test_the_log_has_the_lines_of_the_library(other_kedro, project):
    """Kedro shows INFO lines of the project's package and its own alone."""
    orders.add_hooks(project, "mlflow_iris.tracking")
    other_kedro("run")
    moved = project.with_name("moved")
    shutil.copytree(project, moved)
    said = other_kedro("run", cwd=moved).stdout
    assert "The store has moved here from" in said


def test_conf_may_be_elsewhere(other_kedro, project):
    (project / "conf").rename(project / "settings_of_all")
    orders.add_hooks(project, "mlflow_iris.tracking")
    with (project / "src" / OTHER / "settings.py").open("a") as settings:
        settings.write('CONF_SOURCE = "settings_of_all"\n')
    mlflow_yml = project / "settings_of_all" / "base" / "mlflow.yml"
    mlflow_yml.write_text("experiment_name: sums\n")
    other_kedro("run")
    (one,) = recorded(project)
    assert (one.status, one.experiment) == ("FINISHED", "sums")
    assert one.params == {"vat": "0.25"}


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_parallel_workers_know_the_project(other_kedro, project, start):
    """Kedro forgets the package in spawned workers, and runs no hooks there."""
    orders.add_hooks(project, "mlflow_iris.tracking")
    sums = project / "src" / OTHER / "pipelines" / "sums" / "__init__.py"
    asks = "from mlflow_iris.tracking import names; vat += names.project_package() != "
    told = sums.read_text().replace(
        "    return float", f"    {asks}'{OTHER}'\n    return float"
    )
    sums.write_text(told)
    other_kedro("run", "--runner=ParallelRunner", KEDRO_MP_CONTEXT=start)
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.tags["kedro.runner"] == "ParallelRunner"
    assert json.loads((project / "total.json").read_text()) == 7.5


def test_without_mlflow_a_run_fails_in_one_line(installed, tmp_path):
    """The wheel alone is what ``kedro new`` needs; the extra brings the rest."""
    project = orders.make(run, installed, tmp_path)
    orders.add_hooks(project, "mlflow_iris.tracking")
    failed = run(installed / "kedro", "run", cwd=project, ok=False)
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert "MLflow is not installed: pip install" in said.replace("\n", " ")
    assert "Traceback" not in failed.stderr
