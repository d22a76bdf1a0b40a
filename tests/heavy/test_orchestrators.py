"""Each node in a process of its own, as orchestrators start them: one MLflow run."""

import pytest
from mlflow import MlflowClient
from runs import METRICS, PACKAGE, build_environment, path_of, recorded, run, start


@pytest.fixture
def client(project_with_store):
    return MlflowClient(
        f"sqlite:///{project_with_store}/mlflow.db",
        f"sqlite:///{project_with_store}/mlflow.db",
    )


@pytest.fixture
def opened(client) -> str:
    """Return the id of a run that this process, the orchestrator, has opened."""
    experiment = client.create_experiment(
        "elsewhere", f"{client.tracking_uri[10:-9]}/a"
    )
    return client.create_run(experiment, run_name="nightly").info.run_id


def test_nodes_that_share_a_run(project_with_store, bin_, client, opened):
    words = (bin_ / "kedro", "run")
    env = {"PATH": path_of(bin_), "MLFLOW_RUN_ID": opened}

    def node(name: str, ok: bool = True, **changes: str) -> int:
        return run(
            *words, f"--nodes={name}", cwd=project_with_store, ok=ok, **env, **changes
        ).returncode

    node("split_data")
    assert node("train_model", ok=False, BEHAVIOUR="raise") == 1
    (one,) = recorded(project_with_store)
    assert (
        one.status == "RUNNING"
    )  # it is the orchestrator that gives up, or tries again
    assert one.tags["failure.node"] == "train_model"
    node("train_model")
    side_by_side = [
        start(*words, f"--nodes={name}", cwd=project_with_store, **env)
        for name in ("log_model", "predict")
    ]
    assert [process.wait(300) for process in side_by_side] == [0, 0]
    for name in ("report_accuracy", "draw_quality", "promote_model"):
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


def test_kedro_airflow_makes_a_dag_that_airflow_takes(project, tmp_path):
    packages = (
        "apache-airflow>=3",
        "kedro-airflow",
        "-r",
        project / "requirements.txt",
    )
    airflow = build_environment(tmp_path / "airflow", *map(str, packages))
    env = {"PATH": path_of(airflow), "AIRFLOW_HOME": str(tmp_path / "home")}
    create = ("airflow", "create", f"--target-dir={tmp_path}")
    run(airflow / "kedro", *create, cwd=project, **env)
    ask = f"from {PACKAGE}_dag import {PACKAGE}; print(*{PACKAGE}().task_ids)"
    done = run(airflow / "python", "-c", ask, cwd=tmp_path, **env)
    nodes = {"split-data", "train-model", "log-model", "predict", "report-accuracy"}
    nodes |= {"draw-quality", "promote-model"}
    assert set(done.stdout.splitlines()[-1].split()) == nodes
