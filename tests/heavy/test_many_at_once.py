"""Many runs at once on one store."""

import shutil

import pytest
from harness import check_all_succeed, start_eight
from mlflow import MlflowClient
from runs import (
    PACKAGE,
    command,
    free_port,
    path_of,
    recorded,
    tracking_server,
)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh store", "existing store"])
def test_sixteen_runs_at_once(fresh, project_with_store, fork, bin_):
    if fresh:
        (project_with_store / "mlflow.db").unlink()
    words, env = command("sequential", bin_, project_with_store)
    words = [*words, "--pipelines=data_engineering"]
    started = [fork.start(*words, cwd=project_with_store, **env) for _ in range(16)]
    assert [process.wait(300) for process in started] == [0] * 16
    runs = recorded(project_with_store)
    assert len(runs) == 16
    assert {(one.status, one.experiment) for one in runs} == {("FINISHED", PACKAGE)}


def test_eight_mlflow_runs_at_once_on_an_existing_store(
    project_with_store, fork, bin_, tmp_path
):
    env = {"PATH": path_of(bin_)}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{project_with_store / 'mlflow.db'}"
    launcher = (bin_ / "mlflow", "run", ".", "--env-manager=local")
    # Each in a folder of its own: they share no data/.
    options = {"project": project_with_store, "folder": tmp_path, **env}
    check_all_succeed(start_eight(fork, *launcher, **options))
    assert [one.status for one in recorded(project_with_store)] == ["FINISHED"] * 8


@pytest.mark.parametrize("place", ["SQLite", "a server"])
def test_trainings_at_once_lose_no_version_and_leave_the_best_as_champion(
    trained_project, fork, bin_, tmp_path, place
):
    train = (trained_project, fork, bin_, tmp_path)
    if place == "SQLite":
        train_at_once(*train, f"sqlite:///{trained_project}/mlflow.db", known=1)
    else:
        with tracking_server(bin_, tmp_path, free_port()) as (uri, _):
            train_at_once(*train, uri, known=0)


def train_at_once(trained, fork, bin_, folder, uri: str, known: int) -> None:
    """Train in three copies of the project at a time, with one registry."""
    env = {"PATH": path_of(bin_), "MLFLOW_TRACKING_URI": uri}
    trainings = []
    for strength in ("1.0", "0.0001", "0.001"):
        copy = shutil.copytree(trained, folder / strength)
        params = f"--params=model_options.C={strength}"
        words = (bin_ / "kedro", "run", params)
        trainings.append(fork.start(*words, cwd=copy, **env))
    for training in trainings:
        done = training.completed(300)
        assert done.returncode == 0, done.stdout + done.stderr
    store = MlflowClient(uri, uri)
    found = store.search_model_versions(f"name = '{PACKAGE}'")
    numbers = sorted(int(version.version) for version in found)
    assert numbers == list(range(1, known + 4))
    assert len({version.run_id for version in found}) == len(found)
    scores = {int(v.version): float(v.tags["registry.score"]) for v in found}
    champion = store.get_model_version_by_alias(PACKAGE, "champion").version
    assert scores[int(champion)] == max(scores.values())
    assert len(set(scores.values())) > 1
