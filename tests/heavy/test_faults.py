"""What the store says of a run is what happened, whatever fails meanwhile."""

import shutil

import pytest
from faults import Bench
from runs import free_port, tracking_server


@pytest.fixture(scope="module")
def bench(tmp_path_factory, generated, bin_, empty_store, fork):
    """Return a bench for whole runs against a server that fails."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(empty_store, folder / "server.db")
    with tracking_server(bin_, folder, port := free_port()):
        yield Bench(folder, generated, bin_, port, fork)


# A part of what `make faults` does. Where: a request, or 0 for the first to 1 for the
# last of those that can be broken in this way.
SAMPLE = [
    ("kedro run", "503", 0),
    ("kedro run", "503", 1),
    ("kedro run", "401", 1),
    ("kedro run", "401", "POST runs/log-batch #2"),
    ("kedro run", "413", 1),
    ("kedro run", "lost", "POST runs/create #1"),
    ("kedro run", "late", "POST runs/create #1"),
    ("kedro run", "afterwards", "POST runs/create #1"),
    ("kedro run", "lost", "POST model-versions/create #1"),
    ("kedro run", "stall", 1),
    ("kedro run", "gone", 0.5),
    ("score", "dropped", 0.5),
    ("score", "stall", 1),
    ("tune", "lost", "POST runs/create #2"),
    ("tune", "late", "POST runs/create #2"),
    ("tune", "gone", "POST runs/update #1"),
    ("a node raises", "gone", 1),
    ("a node raises", "401", 0.8),
    ("mlflow run", "503", 0.95),
    ("mlflow run", "401", 1),
    ("mlflow run", "dropped", 0.1),
]


@pytest.mark.parametrize("scenario, fault, where", SAMPLE)
def test_one_request_fails_once(scenario, fault, where, bench):
    able = [
        request
        for request, faults in bench.faults(scenario).items()
        # A run of more than ten seconds searches once more: not every run does.
        if fault in faults and "POST runs/search" not in request
    ]
    request = where if isinstance(where, str) else able[int(where * (len(able) - 1))]
    case, log = bench.run(scenario, request, fault)
    assert not case.mismatches, f"{case}\n{log[-6000:]}"


GOOD = [("kedro run", "dead", "quality.png"), ("a node raises", "hung", "traceback")]


@pytest.mark.parametrize("scenario, fault, file", GOOD)
def test_a_server_that_fails_for_good_at_the_end(scenario, fault, file, bench):
    (request,) = (r for r in bench.faults(scenario) if file in r)
    case, log = bench.run(scenario, request, fault)
    assert not case.mismatches, f"{case}\n{log[-6000:]}"


def test_ctrl_c_while_a_failure_is_recorded(bench):
    (request,) = (r for r in bench.faults("a node raises") if "traceback" in r)
    case, log = bench.run("a node raises", request, "dead", INTERRUPT="1")
    assert case.afterwards == "FAILED" and not case.mismatches, f"{case}\n{log[-6000:]}"


def test_a_server_that_is_dead_at_the_end_of_mlflow_run(bench):
    *_, request = (r for r in bench.faults("mlflow run") if "quality.png" in r)
    hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}  # MLflow's own: four minutes
    case, log = bench.run("mlflow run", request, "dead", **hurry)
    assert case.status == "RUNNING" and case.afterwards == "FINISHED", log[-6000:]
    assert not case.mismatches, f"{case}\n{log[-6000:]}"
