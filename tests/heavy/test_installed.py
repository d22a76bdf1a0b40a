"""The installed library in an environment of its own, beside other plugins."""

from pathlib import Path

import orders
import pytest
from runs import (
    AUTHOR,
    answer,
    build_environment,
    path_of,
    recorded,
    run,
    shared_environment,
)

KEDRO = ("kedro-datasets[pandas-csvdataset,json-jsondataset]", "scikit-learn")


@pytest.fixture(scope="module")
def plain(wheel, shared) -> Path:
    """Return the ``bin`` of an environment with the wheel and its extra."""
    return shared_environment(shared / "plain", f"{wheel}[tracking]", *KEDRO)


@pytest.fixture
def project(plain, tmp_path) -> Path:
    """Return a project from Kedro's own template, with the two lines."""
    made = orders.make(run, plain, tmp_path)
    orders.add_hooks(made, "mlflow_iris.tracking")
    return made


def test_runs_are_recorded_compared_and_replayed(project, plain):
    options = {"cwd": project, "PATH": path_of(plain), "COLUMNS": "300"}
    run("git", "init", "-q", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", *AUTHOR, "commit", "-qm", "all", cwd=project)
    run(plain / "kedro", "run", **options)
    run(plain / "kedro", "run", "--params=vat=0.5", **options)
    assert [one.status for one in recorded(project)] == ["FINISHED"] * 2
    assert len(answer(run(plain / "kedro", "runs", **options))) >= 3
    replayed = run(plain / "kedro", "replay", "last", **options)
    assert "equal" in replayed.stdout, replayed.stdout
    (one,) = [one for one in recorded(project) if "replay.of" in one.tags]
    assert one.status == "FINISHED" and one.params == {"vat": "0.5"}


TRAIN = '''
"""A model without any of the project's own code."""

import mlflow
from kedro.pipeline import Node, Pipeline
from mlflow_iris import tracking
from sklearn.linear_model import LinearRegression


def train(orders):
    model = LinearRegression().fit(orders[["quantity"]], orders["price"])
    mlflow.sklearn.log_model(model, name="m", **tracking.sklearn_log_kwargs(model))
    tracking.log_metrics({"rows": float(len(orders))})
    return float(model.predict(orders[["quantity"]]).sum())


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline([Node(train, "orders", "total", name="train")])
'''


def test_models_name_what_they_need(project, plain):
    """requirements.txt of Kedro's template names neither MLflow nor skops."""
    sums = project / "src" / orders.NAME / "pipelines" / "sums" / "__init__.py"
    sums.write_text(TRAIN)
    (project / "orders.csv").write_text("quantity,price\n1,4\n2,2\n3,1\n")
    options = {"cwd": project, "PATH": path_of(plain)}
    run(plain / "kedro", "run", **options)
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.metrics == {"rows": 3.0}
    (file,) = project.glob("mlruns/**/requirements.txt")
    names = {line.partition("==")[0] for line in file.read_text().splitlines()}
    assert {"mlflow", "scikit-learn", "skops"} <= names
    assert not [name for name in names if name.startswith(("kedro", "mlflow-iris"))]


def test_without_skops_all_but_saving_a_model_works(project, wheel, tmp_path):
    theirs = build_environment(tmp_path / "no skops", f"{wheel}[tracking]", *KEDRO)
    uninstall = ("uv", "pip", "uninstall", "--quiet", "skops")
    run(*uninstall, f"--python={theirs / 'python'}", cwd=tmp_path)
    options = {"cwd": project, "PATH": path_of(theirs), "COLUMNS": "300"}
    run(theirs / "kedro", "run", **options)
    (one,) = recorded(project)
    assert one.status == "FINISHED"
    run(theirs / "kedro", "runs", **options)
    sums = project / "src" / orders.NAME / "pipelines" / "sums" / "__init__.py"
    sums.write_text(TRAIN)
    (project / "orders.csv").write_text("quantity,price\n1,4\n2,2\n")
    failed = run(theirs / "kedro", "run", ok=False, **options)
    assert "skops, which is not installed: pip install" in failed.stdout + failed.stderr
    assert recorded(project)[-1].tags["failure.node"] == "train"


def test_kedro_viz_and_kedro_mlflow_may_be_beside(project, wheel, tmp_path):
    theirs = build_environment(
        tmp_path / "beside", f"{wheel}[tracking]", *KEDRO, "kedro-viz", "kedro-mlflow"
    )
    options = {"cwd": project, "PATH": path_of(theirs), "COLUMNS": "300"}
    said = run(theirs / "kedro", "run", **options)
    assert "The plugin kedro-mlflow is installed: it records the same runs" in (
        said.stdout + said.stderr
    )
    ours = [one for one in recorded(project) if "kedro.run_id" in one.tags]
    assert [one.status for one in ours] == ["FINISHED"]

    settings = project / "src" / orders.NAME / "settings.py"
    off = 'DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")\n'
    settings.write_text(settings.read_text() + off)
    before = {one.id for one in recorded(project)}
    said = run(theirs / "kedro", "run", **options)
    assert "kedro-mlflow is installed" not in said.stdout + said.stderr
    (one,) = [one for one in recorded(project) if one.id not in before]
    assert one.status == "FINISHED"
    run(theirs / "kedro", "viz", "build", **options)
    assert (project / "build" / "index.html").is_file()
