"""A search on a cluster that fails."""

import shutil
import signal
import time

import pytest
import yaml
from runs import free_port, path_of, point_at, recorded, start, wait_for

C = "logisticregression__C"


def tuned(project):
    """Return the last search's run, and its children in the order of the search."""
    runs = recorded(project)
    (parent,) = (one for one in runs if one.tags.get("kedro.pipeline") == "tune")
    children = [r for r in runs if r.tags.get("mlflow.parentRunId") == parent.id]
    return parent, sorted(children, key=lambda r: int(r.tags["search.candidate"]))


def set_options(project, **options) -> None:
    """Write options of the search into parameters.yml."""
    file = project / "conf" / "base" / "parameters.yml"
    parameters = yaml.safe_load(file.read_text())
    parameters["tune_options"] = options
    file.write_text(yaml.safe_dump(parameters))


@pytest.fixture
def project(project, empty_store):
    """Return a project with a store, so that tests need not wait for one."""
    shutil.copy(empty_store, project / "mlflow.db")
    return project


def search_on(address, project, workbench, log):
    """Start a search on a cluster that takes a while."""
    point_at(address, project)
    values = [0.01 * 1.2**n for n in range(40)]
    set_options(project, search="GridSearchCV", cv=15, param_grid={C: values})
    words = (workbench / "kedro", "run", "--pipelines=tune", "--env=cluster")
    env = {"PATH": path_of(workbench), "COLUMNS": "300"}
    return start(*words, cwd=project, output=log.open("w"), **env)


def test_a_worker_dies_and_the_search_finishes(cluster, project, workbench, tmp_path):
    log = tmp_path / "log"
    search = search_on(cluster.address, project, workbench, log)
    wait_for(r"with 2 concurrent workers[^$]*Done +\d+ tasks", log, search)
    cluster.workers[0].send_signal(signal.SIGKILL)
    assert search.wait(300) == 0, log.read_text()[-4000:]
    parent, children = tuned(project)
    assert {child.status for child in children} == {"FINISHED"} and len(children) == 40
    assert parent.status == "FINISHED" and "figures/search.png" in parent.artifacts
    assert parent.tags["kedro.env"] == "cluster"


@pytest.mark.parametrize("when", ["at the start", "in mid-search"])
def test_a_scheduler_is_gone(when, cluster, project, workbench, tmp_path):
    log, address = tmp_path / "log", cluster.address
    if when == "at the start":
        address = f"tcp://127.0.0.1:{free_port()}"
    search = search_on(address, project, workbench, log)
    pattern = "Running node: tune_model"
    if when == "in mid-search":
        pattern = r"Done +\d+ tasks"
    wait_for(pattern, log, search)
    began = time.monotonic()
    cluster.scheduler.send_signal(signal.SIGKILL)
    assert search.wait(120) == 1
    assert time.monotonic() - began < 60
    parent, children = tuned(project)
    assert parent.status == "FAILED" and children == []
    assert f"the search on {address} has failed" in parent.tags["failure.error"]
    assert parent.tags["failure.node"] == "tune_model"
