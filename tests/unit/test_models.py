"""``tracking.models``: what a model needs to load elsewhere, and loading it."""

import os
import sys
from importlib import metadata

import mlflow
import numpy as np
import pandas as pd
import pytest
from click import ClickException
from kedro.framework import project as kedro_project
from mlflow import MlflowClient
from registered import last_run, versions
from runs import PACKAGE
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

FLOWERS = pd.DataFrame(
    {
        "sepal_length": [5.1],
        "sepal_width": [3.5],
        "petal_length": [1.4],
        "petal_width": [0.2],
    }
)


def test_requirements_are_pinned_without_kedros(tracking, generated):
    pinned = tracking.models.pinned_requirements(generated / "src" / PACKAGE)
    names = {line.partition("==")[0] for line in pinned}
    assert {"mlflow", "scikit-learn", "skops"} <= names
    assert all("==" in line for line in pinned)
    assert not [name for name in names if name.startswith("kedro")]


def test_what_is_no_installed_requirement_is_left_out(tracking, tmp_path):
    package = tmp_path / "src" / "iris_flowers"
    package.mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text(
        "# comment\n--index-url x\nnot-installed-anywhere\n"
        "kedro-datasets[pandas]\nmlflow[auth,extra]>1 # why\n"
    )
    versions = {name: metadata.version(name) for name in ("scikit-learn", "skops")}
    assert tracking.models.pinned_requirements(package) == [
        f"mlflow[auth,extra]=={mlflow.__version__}",
        # What a logged model needs is named, also where the project does not say so.
        *(f"{name}=={version}" for name, version in versions.items()),
    ]


def test_a_wheels_requirements_are_those_of_its_metadata(
    tracking, tmp_path, monkeypatch
):
    info = tmp_path / "site" / "flowers-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: flowers\nVersion: 1\n"
        "Requires-Dist: mlflow>1\nRequires-Dist: pytest; extra == 'dev'\n"
    )
    (info / "RECORD").write_text("installed_flowers/__init__.py,,\n")
    (info.parent / "installed_flowers").mkdir()
    (info.parent / "installed_flowers" / "__init__.py").touch()
    monkeypatch.syspath_prepend(info.parent)
    package = info.parent / "installed_flowers"
    first, *rest = tracking.models.pinned_requirements(package)
    assert first == f"mlflow=={mlflow.__version__}"
    names = [line.partition("==")[0] for line in rest]
    assert names == ["scikit-learn", "skops"]


def test_the_package_is_that_of_kedro_also_in_a_spawned_worker(
    tracking, generated, tmp_path, monkeypatch
):
    """Kedro's own package name comes first: ``tracking`` may be installed elsewhere."""
    package = tmp_path / "parcels"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kedro_project, "PACKAGE_NAME", "parcels")
    assert tracking.models.package_folder() == package
    monkeypatch.setattr(kedro_project, "PACKAGE_NAME", None)
    assert tracking.models.package_folder() == generated / "src" / PACKAGE
    monkeypatch.setenv(tracking.names.PACKAGE_VARIABLE, "parcels")
    assert tracking.models.package_folder() == package


def test_the_library_itself_is_no_requirement_of_a_model(tracking, tmp_path):
    package = tmp_path / "src" / "orders"
    package.mkdir(parents=True)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("iris-flowers[tracking] @ git+https://example.org/x\n")
    before = tracking.models.pinned_requirements(package)
    requirements.write_text("")
    assert tracking.models.pinned_requirements(package) == before


def test_without_skops_a_model_is_refused_in_one_line(tracking, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    monkeypatch.setitem(sys.modules, "skops", None)
    with pytest.raises(ClickException, match='pip install "skops'):
        tracking.models.sklearn_log_kwargs(LogisticRegression())


def test_a_model_of_scikit_learn_needs_no_code(tracking):
    portable = tracking.models.sklearn_log_kwargs(make_pipeline(LogisticRegression()))
    pinned = tracking.models.pinned_requirements(tracking.models.package_folder())
    assert portable.pop("pip_requirements") == pinned
    assert portable == {
        "serialization_format": "skops",
        "skops_trusted_types": None,
        "code_paths": None,
        "metadata": None,
    }


def test_types_of_a_model_are_trusted_by_name(tracking):
    model = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression())
    assert tracking.models.sklearn_log_kwargs(model)["code_paths"] is None


@pytest.mark.slow
def test_a_model_with_the_projects_functions_takes_its_code(tracking, module):
    model = FunctionTransformer(module("schema").validate_features)
    portable = tracking.models.sklearn_log_kwargs(model)
    assert portable["code_paths"] == [str(tracking.models.package_folder())]
    assert portable["skops_trusted_types"] == ["iris_flowers.schema.validate_features"]


@pytest.mark.slow
def test_a_model_that_needs_kedro_is_refused(tracking, module):
    model = FunctionTransformer(module("datasets").read_file)
    with pytest.raises(ClickException, match="features.py, without Kedro"):
        tracking.models.sklearn_log_kwargs(model)


def test_a_model_that_skops_cannot_save_is_refused(tracking):
    with pytest.raises(ClickException, match="skops cannot save this .*flavour"):
        tracking.models.sklearn_log_kwargs(FunctionTransformer(i for i in [1]))


def test_a_worker_resumes_the_run_that_its_variable_names(tracking, active_run):
    mlflow.end_run()
    os.environ["MLFLOW_RUN_ID"] = active_run.info.run_id
    tracking.models.sklearn_log_kwargs(LogisticRegression())
    assert mlflow.active_run().info.run_id == active_run.info.run_id


# Loading


def test_the_run_names_the_model_that_it_loads(tracking, project_with_models):
    uri = f"models:/{PACKAGE}@champion"
    with mlflow.start_run() as run:
        model = tracking.models.load_model(uri)
    (species,) = model.predict(FLOWERS)
    assert species == "setosa"
    run, (version,) = mlflow.get_run(run.info.run_id), versions()
    model_id = version.source.rpartition("/")[2]
    said = {k: v for k, v in run.data.tags.items() if k.startswith("model.")}
    assert said == {
        "model.uri": uri,
        "model.id": model_id,
        "model.run_id": version.run_id,
    }
    (used,) = run.inputs.model_inputs
    assert used.model_id == model_id


def test_a_model_is_loaded_outside_of_a_run(tracking, project_with_models):
    before = last_run().info.run_id
    assert tracking.models.load_model(f"models:/{PACKAGE}/1").predict(FLOWERS)
    assert last_run().info.run_id == before


def test_a_replay_loads_the_model_of_then(tracking, uris, project_with_models):
    uri = f"models:/{PACKAGE}@champion"
    with mlflow.start_run() as then:
        first = tracking.models.load_model(uri)
    version = mlflow.register_model(uris["strong"], PACKAGE).version
    MlflowClient().set_registered_model_alias(PACKAGE, "champion", version)
    names = ("model.uri", "model.id")
    tags = mlflow.get_run(then.info.run_id).data.tags
    tags = {name: tags[name] for name in names} | {"replay.of": then.info.run_id}
    with mlflow.start_run(tags=tags):
        again = tracking.models.load_model(uri)
        other = tracking.models.load_model(f"models:/{PACKAGE}/2")
    assert [m[-1].C for m in (first, again, other)] == [1.0, 1.0, 10.0]


@pytest.mark.parametrize(
    "uri", [f"models:/{PACKAGE}/7", "models:/none@champion", "runs:/abc/model", "x"]
)
def test_a_model_that_cannot_be_loaded_is_named(tracking, project_with_models, uri):
    with pytest.raises(ClickException) as caught:
        tracking.models.load_model(uri)
    assert caught.value.message.startswith(f"Cannot load the model {uri}: ")
    assert "\n" not in caught.value.message
    assert "train one with `kedro run`" in caught.value.message


def test_a_model_that_does_not_work_here_names_the_versions(
    tracking, active_run, monkeypatch
):
    rows = pd.DataFrame({"x": [0.0, 1.0]})
    model = LogisticRegression().fit(rows, ["a", "b"])
    options = tracking.models.sklearn_log_kwargs(model) | {"input_example": rows}
    uri = mlflow.sklearn.log_model(model, name="model", **options).model_uri
    monkeypatch.setattr(tracking.models.metadata, "version", lambda name: "1.6.9")
    assert tracking.models.load_model(uri)  # another version that works

    def predict(self, X):
        raise AttributeError("no attribute 'multi_class'")

    monkeypatch.setattr(LogisticRegression, "predict", predict)
    with pytest.raises(ClickException) as caught:
        tracking.models.load_model(uri)
    assert "does not work here" in caught.value.message
    assert "pip install scikit-learn==" in caught.value.message
