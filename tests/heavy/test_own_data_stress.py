"""A hundred short runs at once, in two folders and four processes: each has its own."""

import shutil

from runs import METRICS, PACKAGE, path_of, recorded

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
    import json

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
