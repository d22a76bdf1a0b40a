"""A run's data are its own: runs at once, in the middle, of what is there already."""

import json
import os
import shutil
import signal
import time
import urllib.request

import pandas as pd
import pytest
from own_data import check_own, check_waits, train_alone
from runs import (
    METRICS,
    PACKAGE,
    SESSION,
    command,
    free_port,
    recorded,
    serving,
    start,
)

VALUES = ["0.001", "1", "100"]
RUNNERS = ["Sequential", "Thread", "Parallel"]


@pytest.fixture(scope="module")
def alone(generated, empty_store, fork, bin_, tmp_path_factory):
    """Return the metrics of a lone training for each value of C."""
    folder = tmp_path_factory.mktemp("alone") / "iris-flowers"
    project = shutil.copytree(generated, folder)
    shutil.copy(empty_store, project / "mlflow.db")
    return train_alone(VALUES, project, fork, bin_)


def test_trainings_at_once_record_their_own_numbers(project_with_store, at_once, alone):
    """``tests/heavy/test_own_data_stress.py`` has more of them, and of each runner."""
    pairs = zip(RUNNERS, VALUES, strict=True)
    options = (
        (f"--runner={r}Runner", f"--params=model_options.C={c}") for r, c in pairs
    )
    started = at_once(*(("run", *pair) for pair in options))
    assert [one.wait() for one in started] == [0] * len(VALUES)
    check_own(project_with_store, recorded(project_with_store), alone)
    check_waits(started)


def test_scorings_at_once_write_whole_files(project_with_store, at_once, kedro):
    kedro("run", cwd=project_with_store)
    rows = pd.read_csv(project_with_store / "data" / "01_raw" / "iris.csv").drop(
        columns="species"
    )
    sizes = {"small.csv": 1_000, "large.csv": 3_000}
    for name, count in sizes.items():
        table = rows.sample(count, replace=True, random_state=0)
        table.to_csv(project_with_store / "data" / "01_raw" / name, index=False)
    scored = project_with_store / "data" / "07_model_output" / "scored_flowers.csv"
    started = at_once(
        *(
            (
                "run",
                "--pipelines=score",
                f"--params=score_options.input=data/01_raw/{n}",
            )
            for n in [*sizes, *sizes]
        )
    )
    assert [one.wait() for one in started] == [0] * 4
    assert len(pd.read_csv(scored)) in sizes.values()
    found = recorded(project_with_store)[1:]
    for one in found:
        kept = (
            project_with_store
            / "mlruns"
            / PACKAGE
            / one.id
            / "artifacts"
            / "predictions"
        )
        (name,) = (n for n in sizes if n in one.params["score_options.input"])
        assert one.metrics["rows"] == sizes[name]
        assert len(pd.read_csv(kept / "scored_flowers.csv")) == sizes[name]
    assert not list(scored.parent.glob("*.part"))


def test_a_training_beside_a_search_and_mlflow_run(
    project_with_store, at_once, bin_, alone, fork
):
    _, env = command("mlflow run", bin_, project_with_store)
    mlflow_run = (bin_ / "mlflow", "run", ".", "--env-manager=local", "-P", "C=100")
    beside = fork.start(*mlflow_run, cwd=project_with_store, **env)
    started = [
        *at_once(
            ("run", "--pipelines=tune"), ("run", "--params=model_options.C=0.001")
        ),
        beside,
    ]
    assert [one.wait() for one in started] == [0] * 3
    top = [
        one
        for one in recorded(project_with_store)
        if "mlflow.parentRunId" not in one.tags
    ]
    assert {one.status for one in top} == {"FINISHED"}
    trained = [one for one in top if one.tags["kedro.pipeline"] == "__default__"]
    assert len(trained) == 2
    for one in trained:
        c = one.params["model_options.C"].removesuffix(".0")
        assert {name: one.metrics[name] for name in METRICS} == alone[c]


def test_requests_to_the_http_server_at_once(project_with_store, bin_, alone):
    port, log = free_port(), project_with_store.parent / "server.log"
    _, env = command("sequential", bin_, project_with_store)
    words = (bin_ / "kedro", "server", "start", "--port", port)
    with serving(*words, port=port, log=log, cwd=project_with_store, **env) as (url, _):
        bodies = [{"params": {"model_options": {"C": float(c)}}} for c in VALUES]
        answers = post_all(f"{url}/run", bodies)
    assert answers == [200] * 3
    found = recorded(project_with_store)
    assert {float(one.params["model_options.C"]) for one in found} == {0.001, 1, 100}
    assert len(found) == 3 and {one.status for one in found} == {"FINISHED"}
    for one in found:
        c = one.params["model_options.C"].removesuffix(".0")
        assert {name: one.metrics[name] for name in METRICS} == alone[c]


def post_all(url: str, bodies: list) -> list[int]:
    """Send requests at once; return their statuses."""
    from concurrent.futures import ThreadPoolExecutor

    def post(body) -> int:
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), kind)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(post, bodies))


def start_waiting(bin_, project, **changes):
    """Start a run that holds its files; return it when its node is at work."""
    words, env = command("sequential", bin_, project)
    process = start(*words, cwd=project, **{**env, "BEHAVIOUR": "wait", **changes})
    while not (project / "data" / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (project / "data" / "ready").unlink()
    return process


def test_who_does_not_wait_is_told_in_one_line_and_makes_no_run(
    project_with_store, bin_, kedro
):
    holder = start_waiting(bin_, project_with_store)
    one = recorded(project_with_store)[0]
    for setting in ("environment", "mlflow.yml"):
        if setting == "mlflow.yml":
            with (project_with_store / "conf" / "base" / "mlflow.yml").open(
                "a"
            ) as file:
                file.write("lock_timeout: 0\n")
        env = {"KEDRO_LOCK_TIMEOUT": "0"} if setting == "environment" else {}
        done = kedro("run", cwd=project_with_store, ok=False, **env)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: ") and f"in use by run {one.id}" in last
    assert len(recorded(project_with_store)) == 1
    # After kill -9 the files are free.
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()
    kedro("run", cwd=project_with_store)
    assert [r.status for r in recorded(project_with_store)] == ["KILLED", "FINISHED"]


def test_ctrl_c_ends_the_waiting_and_opens_no_run(project_with_store, bin_):
    holder = start_waiting(bin_, project_with_store)
    words, env = command("sequential", bin_, project_with_store)
    log = project_with_store.parent / "waiting.log"
    with log.open("w") as output:
        waiting = start(*words, cwd=project_with_store, output=output, **env)
    while "Waiting" not in log.read_text():
        assert waiting.poll() is None
        time.sleep(0.05)
    os.killpg(waiting.pid, signal.SIGINT)
    assert waiting.wait(10) != 0
    assert len(recorded(project_with_store)) == 1
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()


def test_sessions_within_a_run_do_not_wait_for_it(project_with_store, bin_, fork):
    """A node that runs another session, or a process of the same project."""
    nodes = (
        project_with_store
        / "src"
        / PACKAGE
        / "pipelines"
        / "data_engineering"
        / "nodes.py"
    )
    text = nodes.read_text()
    mark = "    parts: Any = train_test_split("
    inner = """    import os, subprocess, sys
    from kedro.framework.session import KedroSession
    if not os.environ.pop("INNER", None):
        os.environ["INNER"] = "yes"
        with KedroSession.create(os.environ["PROJECT"]) as session:
            session.run(pipeline_names=["data_engineering"])
        os.environ["INNER"] = "yes"
        words = [sys.executable, "-m", "kedro", "run", "--pipelines=data_engineering"]
        subprocess.run(words, cwd=os.environ["PROJECT"], check=True)
        del os.environ["INNER"]
"""
    assert mark in text
    nodes.write_text(text.replace(mark, inner + mark))
    _, env = command("sequential", bin_, project_with_store)
    fork.start(bin_ / "kedro", "run", cwd=project_with_store, **env).completed(120)
    assert {one.status for one in recorded(project_with_store)} == {"FINISHED"}
    assert len(recorded(project_with_store)) == 2  # the process has a run of its own


def test_two_pipelines_of_a_callers_run(project_with_store, bin_, fork):
    script = SESSION + (
        "with mlflow.start_run():\n"
        "  with KedroSession.create(os.environ['PROJECT']) as session:\n"
        "    session.run(pipeline_names=['data_engineering'])\n"
        "  with mlflow.start_run(nested=True), "
        "KedroSession.create(os.environ['PROJECT']) as session:\n"
        "    session.run(pipeline_names=['data_science'])\n"
    )
    _, env = command("caller's run", bin_, project_with_store)
    fork.run(bin_ / "python", "-c", script, cwd=project_with_store, **env)
    assert [one.status for one in recorded(project_with_store)] == ["FINISHED"] * 2


def test_a_replay_makes_the_inputs_again_that_another_run_had_made(
    project_with_store, kedro
):
    kedro(
        "run",
        "--to-nodes=train_model",
        "--params=model_options.C=10",
        cwd=project_with_store,
    )
    kedro("run", "--from-nodes=log_model,predict", cwd=project_with_store)
    first, second = recorded(project_with_store)
    done = kedro("replay", second.id, cwd=project_with_store)
    assert "is replayed" not in done.stdout
    kedro("run", "--params=model_options.C=0.001", cwd=project_with_store)
    done = kedro("replay", second.id, "--dry-run", cwd=project_with_store)
    said = (
        f"data/06_models/model.pkl is not here as it was: run {first.id}, which made it"
    )
    assert said in done.stdout
    before = (project_with_store / "data" / "06_models" / "model.pkl").read_bytes()
    done = kedro("replay", second.id, cwd=project_with_store)
    assert done.stdout.strip().endswith("equal") and "different" not in done.stdout
    assert (
        project_with_store / "data" / "06_models" / "model.pkl"
    ).read_bytes() == before
    *_, made, replayed = recorded(project_with_store)
    assert made.tags["replay.of"] == first.id
    assert replayed.tags["replay.of"] == second.id
    assert replayed.metrics == second.metrics
    (project_with_store / "data" / "01_raw" / "iris.csv").open("a").write(
        "5.0,3.0,1.0,0.2,setosa\n"
    )
    done = kedro("replay", second.id, cwd=project_with_store, ok=False)
    assert done.returncode == 2
    assert "An input is not here as it was: data/01_raw/iris.csv" in done.stderr
