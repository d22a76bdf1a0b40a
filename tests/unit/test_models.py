"""``tracking.models``: what a model needs to load elsewhere."""

import os
import sys
from importlib import metadata

import mlflow
import numpy as np
import pytest
from click import ClickException
from kedro.framework import project as kedro_project
from runs import PACKAGE
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


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
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kedro_project, "PACKAGE_NAME", "orders")
    assert tracking.models.package_folder() == tmp_path / "orders"
    monkeypatch.setattr(kedro_project, "PACKAGE_NAME", None)
    assert tracking.models.package_folder() == generated / "src" / PACKAGE
    monkeypatch.setenv(tracking.names.PACKAGE_VARIABLE, "orders")
    assert tracking.models.package_folder() == tmp_path / "orders"


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


def test_a_model_with_the_projects_functions_takes_its_code(tracking, module):
    model = FunctionTransformer(module("schema").validate_features)
    portable = tracking.models.sklearn_log_kwargs(model)
    assert portable["code_paths"] == [str(tracking.models.package_folder())]
    assert portable["skops_trusted_types"] == ["iris_flowers.schema.validate_features"]


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
