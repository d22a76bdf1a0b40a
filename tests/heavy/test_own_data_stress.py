"""Many runs at once, in one folder or in two: each has its own data."""

import json
import shutil

import pytest
from own_data import check_own, check_waits, train_alone
from recipes import apply
from runs import METRICS, PACKAGE, path_of, recorded

VALUES = ["0.001", "0.01", "0.1", "1", "10", "100"]
VERSIONED = "  versioned: true\n"

SCRIPT = """
import sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
project, start = sys.argv[1], int(sys.argv[2])
bootstrap_project(project)
for number in range(start, start + 25):
    c = 0.001 * (number + 1) ** 2
    with KedroSession.create(project, runtime_params={"model_options.C": c}) as session:
        session.run()
"""
MODELS = """
import json, sys, mlflow
client, found = mlflow.MlflowClient(), {}
for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
    made = [client.get_logged_model(o.model_id) for o in run.outputs.model_outputs]
    (model,) = (m for m in made if m.name == "model")
    estimator = mlflow.sklearn.load_model(model.model_uri)
    kept = {m.key: m.value for m in model.metrics or []}
    found[run.info.run_id] = [estimator[-1].C, model.model_id, kept.get("accuracy")]
    name, _, version = run.data.tags["registry.version"].rpartition("/")
    source = client.get_model_version(name.removeprefix("models:/"), version).source
    found[run.info.run_id].append(source.rpartition("/")[2])
print(json.dumps(found))
"""


def test_a_hundred_runs_at_once_record_what_is_their_own(
    generated, empty_store, fork, bin_, tmp_path
):
    projects = [tmp_path / name / "iris-flowers" for name in ("one", "two")]
    started = []
    for project in projects:
        shutil.copytree(generated, project)
        shutil.copy(empty_store, project / "mlflow.db")
        for start in (0, 25):  # two processes in each folder
            words = (bin_ / "python", "-c", SCRIPT, project, start)
            started.append(fork.start(*words, cwd=project, PATH=path_of(bin_)))
    for process in started:
        assert process.wait(1800) == 0, process.completed().stderr[-3000:]
    by_parameter: dict[str, dict] = {}
    for project in projects:
        runs = recorded(project)
        assert [one.status for one in runs] == ["FINISHED"] * 50
        uri = f"sqlite:///{project / 'mlflow.db'}"
        env = {"MLFLOW_TRACKING_URI": uri, "PATH": path_of(bin_)}
        said = fork.run(bin_ / "python", "-c", MODELS, cwd=project, **env).stdout
        models = json.loads(said.splitlines()[-1])
        for one in runs:
            c = one.params["model_options.C"]
            fitted, model_id, accuracy, registered = models[one.id]
            assert fitted == float(c) and registered == model_id
            assert accuracy in (None, one.metrics["accuracy"])
            assert float(one.tags["registry.score"]) == one.metrics["accuracy"]
            pictures = project / "mlruns" / PACKAGE / one.id / "artifacts" / "figures"
            own = {name: one.metrics[name] for name in METRICS}
            own["picture"] = (pictures / "confusion_matrix.png").read_bytes()
            # The same parameters in another folder came to the same.
            assert by_parameter.setdefault(c, own) == own
        scores = {one.tags["registry.version"]: one.metrics["accuracy"] for one in runs}
        assert len(scores) == 50
    assert len(by_parameter) == 50


@pytest.fixture(scope="module")
def alone(generated, empty_store, fork, bin_, tmp_path_factory):
    """Return the metrics of a lone training for each value of C."""
    folder = tmp_path_factory.mktemp("alone") / "iris-flowers"
    project = shutil.copytree(generated, folder)
    shutil.copy(empty_store, project / "mlflow.db")
    return train_alone(VALUES, project, fork, bin_)


@pytest.mark.parametrize("runner", ["Sequential", "Thread", "Parallel"])
def test_trainings_at_once_record_their_own_numbers(
    runner, project_with_store, at_once, alone
):
    options = ("run", f"--runner={runner}Runner")
    started = at_once(*((*options, f"--params=model_options.C={c}") for c in VALUES))
    assert [one.wait() for one in started] == [0] * len(VALUES)
    check_own(project_with_store, recorded(project_with_store), alone)
    check_waits(started)


@pytest.mark.parametrize("runner", ["Sequential", "Thread", "Parallel"])
def test_versioned_trainings_run_side_by_side(
    runner, project_with_store, at_once, alone, kedro
):
    catalog = project_with_store / "conf" / "base" / "catalog.yml"
    apply(project_with_store, "Side by side")
    assert catalog.read_text().count(VERSIONED) == 10
    options = ("run", f"--runner={runner}Runner")
    values = [*VALUES, "1", "100"]
    started = at_once(*((*options, f"--params=model_options.C={c}") for c in values))
    assert [one.wait() for one in started] == [0] * len(values)
    check_own(project_with_store, recorded(project_with_store), alone)
    assert not [s for s in started if "Waiting" in s.completed().stdout]
    one = next(
        o
        for o in recorded(project_with_store)
        if o.params["model_options.C"] == "0.001"
    )
    version = one.tags["kedro.run_id"]
    pinned = ",".join(f"{name}:{version}" for name in ("model", "train", "test"))
    kedro(
        "run",
        "--from-nodes=log_model,predict",
        f"--load-versions={pinned}",
        cwd=project_with_store,
    )
    again = recorded(project_with_store)[-1]
    assert again.tags["data.model.version"] == version
    assert again.tags["data.model.run_id"] == one.id
    assert {name: again.metrics[name] for name in METRICS} == alone["0.001"]
