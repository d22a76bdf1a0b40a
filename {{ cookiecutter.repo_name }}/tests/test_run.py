"""The whole pipeline, run in a copy of the project, and what it refuses."""

import json
import re

import mlflow
import pandas as pd
import pytest
import yaml
from conftest import PROJECT


def test_a_run_is_recorded_whole_and_repeats_itself(project, kedro_run, iris):
    for _ in range(2):
        kedro_run()
    runs = mlflow.search_runs(experiment_names=[str(project)], output_format="list")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    metrics = json.loads((project / "data/08_reporting/metrics.json").read_text())
    for run in runs:
        assert run.data.metrics == metrics
        assert run.data.params["model_options.C"] == "1.0"
        assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["iris"]
    assert metrics["accuracy"] >= 0.9

    uri = json.loads((project / "data/06_models/model_uri.json").read_text())
    model = mlflow.pyfunc.load_model(uri)
    assert model.metadata.run_id == runs[0].info.run_id
    predicted = pd.Series(model.predict(iris.drop(columns="species")))
    assert (predicted == iris["species"]).mean() >= 0.9


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda iris: iris.drop(columns="petal_width"), "petal_width"),
        (lambda iris: iris.drop(columns="species"), "species"),
        (lambda iris: iris.replace({"sepal_length": 5.1}, "long"), "sepal_length"),
        (lambda iris: iris.replace({"sepal_width": 3.0}, -3.0), "sepal_width"),
        (lambda iris: iris.replace("setosa", ""), r"species \(50 rows"),
        (lambda iris: iris.assign(species=1), r"species \(150 rows"),
        (lambda iris: iris.head(0), "no rows"),
        (lambda iris: pd.DataFrame(), "iris.csv"),
    ],
    ids=[
        *("no column", "no species", "not a number", "negative"),
        *("rows without a label", "numbers as labels", "no rows", "empty file"),
    ],
)
def test_bad_data_are_refused_before_training(project, kedro_run, iris, spoil, message):
    spoil(iris).to_csv(project / "data/01_raw/iris.csv", index=False)
    with pytest.raises(Exception, match=message):
        kedro_run()
    assert not (project / "data/06_models").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model_option": {"C": 1.0}}, "model_option"),
        ({"model_options": {"c": 1.0}}, r"model_options(.|\n)*\bc\b"),
        ({"model_options": {"C": -1.0}}, r"model_options(.|\n)*\bC\b"),
        ({"model_options": {"max_iter": "many"}}, r"model_options(.|\n)*max_iter"),
        ({"split_options": {"test_size": 2}}, r"split_options(.|\n)*test_size"),
    ],
    ids=["group", "name", "negative", "type", "range"],
)
def test_bad_parameters_are_refused_before_training(
    project, kedro_run, parameters, message
):
    with pytest.raises(Exception, match=message):
        kedro_run(**parameters)
    assert not (project / "data/06_models").exists()


def test_mlproject_has_the_defaults_of_the_parameters_file():
    """`mlflow run` passes the defaults of MLproject, whatever parameters.yml says."""
    entries = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    ours = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())
    for entry in entries.values():
        for group, name, parameter in re.findall(
            r"(\w+)\.(\w+)=\{(\w+)\}", entry["command"]
        ):
            assert entry["parameters"][parameter]["default"] == ours[group][name]
