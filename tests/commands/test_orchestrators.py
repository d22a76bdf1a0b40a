"""Each node in a process of its own, as orchestrators start them: one MLflow run."""

import re

import pytest
from mlflow import MlflowClient
from runs import METRICS, PACKAGE, ROOT, path_of, recorded

PAGE = (ROOT / "docs" / "orchestrators.md").read_text("utf-8")
NODES = re.findall(r'^        "(\w+)",$', PAGE, re.M)


@pytest.fixture
def client(project_with_store):
    """Return a client of the project's store."""
    store = f"sqlite:///{project_with_store}/mlflow.db"
    return MlflowClient(store, store)


@pytest.fixture
def opened(client) -> str:
    """Return the id of a run that this process, the orchestrator, has opened."""
    experiment = client.create_experiment(
        "elsewhere", f"{client.tracking_uri[10:-9]}/a"
    )
    return client.create_run(experiment, run_name="nightly").info.run_id


def test_nodes_that_share_a_run(project_with_store, bin_, fork, client, opened):
    words = (bin_ / "kedro", "run")
    env = {"PATH": path_of(bin_), "MLFLOW_RUN_ID": opened}

    def node(name: str, ok: bool = True, **changes: str) -> int:
        options = {"cwd": project_with_store, "ok": ok, **env, **changes}
        return fork.run(*words, f"--nodes={name}", **options).returncode

    node("split_data")
    assert node("train_model", ok=False, BEHAVIOUR="raise") == 1
    (one,) = recorded(project_with_store)
    # The orchestrator decides whether to give up or to try again.
    assert one.status == "RUNNING"
    assert one.tags["failure.node"] == "train_model"
    node("train_model")
    node("predict")
    side_by_side = [
        fork.start(*words, f"--nodes={name}", cwd=project_with_store, **env)
        for name in ("report_accuracy", "draw_quality")
    ]
    assert [process.wait(300) for process in side_by_side] == [0, 0]
    assert NODES[:4] == ["split_data", "train_model", "predict", "report_accuracy"]
    for name in NODES[4:]:
        node(name)
    assert recorded(project_with_store)[0].status == "RUNNING"
    client.set_terminated(opened, "FINISHED")

    (one,) = recorded(project_with_store)
    assert (one.id, one.name, one.status) == (opened, "nightly", "FINISHED")
    assert one.experiment == "elsewhere"
    assert METRICS <= one.metrics.keys()
    assert {"split_options.test_size", "model_options.C"} <= one.params.keys()
    pictures = {"figures/confusion_matrix.png", "figures/quality.png"}
    assert pictures | {"data/iris.csv", "failure/traceback.txt"} <= one.artifacts
    assert one.tags["registry.decision"] == "champion"
    assert client.get_model_version_by_alias(PACKAGE, "champion").run_id == opened
    assert not list((project_with_store / ".runs").glob("*"))
