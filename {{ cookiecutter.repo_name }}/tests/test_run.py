"""The whole pipeline, run in a copy of the project, and what it refuses."""

import json
import re
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
import yaml
from conftest import PROJECT

from {{ cookiecutter.python_package }} import schema
from {{ cookiecutter.python_package }}.schema import FEATURES, TARGET

LOAD = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(len(model.predict(model.input_example)))
"""


def test_a_run_is_recorded_whole_and_its_model_loads_elsewhere(
    project, kedro_run, parameters, tmp_path
):
    kedro_run()
    (run,) = mlflow.search_runs(
        experiment_names=[str(project)],
        filter_string="tags.`kedro.run_id` != ''",
        output_format="list",
    )
    assert run.info.status == "FINISHED"
    metrics = json.loads((project / "data/08_reporting/metrics.json").read_text())
    assert metrics.items() <= run.data.metrics.items()
    for group in ("split_options", "model_options"):
        for name, value in parameters[group].items():
            assert run.data.params[f"{group}.{name}"] == str(value)
    assert run.inputs
    assert "iris" in [entry.dataset.name for entry in run.inputs.dataset_inputs]

    # A process of its own, which does not have `src` on its path.
    uri = json.loads((project / "data/06_models/model_uri.json").read_text())
    command = (sys.executable, "-c", LOAD, uri)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "5", done.stderr


SPOIL = {
    "no column": (lambda iris: iris.drop(columns=FEATURES[-1]), FEATURES[-1]),
    "no target": (lambda iris: iris.drop(columns=TARGET), TARGET),
    "no label": (lambda iris: iris.assign(**{TARGET: None}), TARGET),
    "no rows": (lambda iris: iris.head(0), "no rows"),
    "one label": (lambda iris: iris.assign(**{TARGET: "a"}), f"every {TARGET} is a"),
    "a row a label": (lambda iris: iris.groupby(TARGET).head(1), "one row only of"),
    "semicolons": (lambda iris: pd.DataFrame({";".join(iris): []}), "separated by ';'"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOIL.values(), ids=SPOIL)
def test_bad_data_are_refused(iris, spoil, message):
    with pytest.raises(ValueError, match=message):
        schema.validate_iris(spoil(iris))


@pytest.mark.parametrize("group", ["split_options", "model_options"])
def test_bad_parameters_are_refused_before_training(project, kedro_run, group):
    with pytest.raises(Exception, match=group):
        kedro_run(**{group[:-1]: {}})
    with pytest.raises(Exception, match="no_such_option"):
        kedro_run(**{group: {"no_such_option": 1}})
    assert not list((project / "data/06_models").glob("[!.]*"))


def test_mlproject_repeats_the_defaults_of_parameters_yml(parameters):
    """`mlflow run` passes the defaults of MLproject, whatever parameters.yml says."""
    entries = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    for entry in entries.values():
        passed = re.findall(r"(\w+)\.(\w+)=\{(\w+)\}", entry["command"])
        for group, name, parameter in passed:
            if "default" not in (declared := entry["parameters"][parameter]):
                continue  # whoever runs it has to say
            known = parameters.get(group, {})
            assert name in known, f"MLproject passes {group}.{name}: take it out there"
            default = known[name]
            same = f"MLproject: the default of {parameter} must be {default}"
            assert declared["default"] == default, same
