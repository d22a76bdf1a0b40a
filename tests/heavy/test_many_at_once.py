"""Many runs at once on one SQLite store."""

import pytest
from harness import check_all_succeed, start_eight
from runs import (
    PACKAGE,
    command,
    path_of,
    recorded,
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
