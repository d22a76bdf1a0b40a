"""The tools around a project: bandit, pytest, IPython, Kedro's own commands."""

import json
import re
import shutil
import sys
import urllib.request

import pytest
import yaml
from runs import free_port, get_json, path_of, recorded, run, serving

# Takes each node's cells from the magic as IPython would show them, and runs them.
LOAD_NODES = """
%load_ext kedro.ipython
shell = get_ipython()
for node in (pipelines["__default__"] + pipelines["score"]).nodes:
    if "watch" in node.inputs:  # which another node hands over in memory
        print("in memory:", node.name)
        continue
    shell.run_line_magic("load_node", node.name)
    shell.run_cell(shell.rl_next_input).raise_error()
    print("loaded:", node.name)
"""
# Kedro's use of the newest OmegaConf, and MLflow's search for pip, which uv leaves out.
THIRD_PARTY = ("kedro/config/omegaconf_config.py", "Failed to resolve installed pip")


def test_bandit_has_nothing_of_weight_to_say(generated):
    run(sys.executable, "-m", "bandit", "-q", "-ll", "-r", ".", cwd=generated)


def test_load_node_gives_cells_that_run(scored_project, kedro, fork, bin_, tmp_path):
    script = tmp_path / "cells.ipy"
    script.write_text(LOAD_NODES)
    words = (bin_ / "python", "-m", "IPython", script)
    done = fork.run(*words, cwd=scored_project, PATH=path_of(bin_))
    loaded = set(re.findall(r"^loaded: (\w+)$", done.stdout, re.M))
    assert {"split_data", "train_model", "promote_model", "score_flowers"} <= loaded
    handed = set(re.findall(r"^in memory: (\w+)$", done.stdout, re.M))
    assert handed == {"check_drift"}
    described = kedro("registry", "describe", cwd=scored_project).stdout
    assert set(re.findall(r"^- (\w+)", described, re.M)) <= loaded | handed


def test_resolved_patterns_are_a_catalog(project, kedro):
    said = kedro("catalog", "resolve-patterns", COLUMNS="200").stdout
    start = re.search(r"^\w+:$", said, re.M).start()
    resolved = yaml.safe_load(said[start:])
    file = project / "conf" / "base" / "catalog.yml"
    assert resolved.keys() >= yaml.safe_load(file.read_text()).keys()
    file.write_text(yaml.safe_dump(resolved))
    kedro("run")
    kedro("run", "--pipelines=score")
    assert (project / "data/07_model_output/scored_flowers.csv").exists()


# What is loaded may warn, too: a process of its own, where others share the libraries.
COMMANDS = {
    "kedro run": run,
    "mlflow run . --env-manager=local": run,
    "kedro registry list": None,
    "kedro catalog describe-datasets": None,
    "kedro catalog resolve-patterns": None,
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_fresh_project_causes_no_warning(project, bin_, fork, empty_store, words):
    tool, *options = words.split()
    execute = COMMANDS[words] or fork.run
    shutil.copy(empty_store, project / "mlflow.db")
    env = {"PATH": path_of(bin_), "COLUMNS": "500"}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{project / 'mlflow.db'}"
    done = execute(bin_ / tool, *options, cwd=project, **env)
    lines = f"{done.stdout}\n{done.stderr}".splitlines()
    found = [line for line in lines if re.search("warning|error", line, re.I)]
    assert [ln for ln in found if not any(name in ln for name in THIRD_PARTY)] == []


def test_the_http_server_takes_dotted_names(project, kedro, bin_, empty_store):
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    port, log = free_port(), project.parent / "server.log"
    words = (bin_ / "kedro", "server", "start", f"--port={port}")
    bodies = [
        {"params": {"model_options.C": 0.7, "model_options": {"max_iter": 99}}},
        {"params": {"model_option.C": 0.7}},
        {
            "pipeline_names": ["score"],
            "params": {"score_options.input": str(project / "flowers.csv")},
        },
    ]
    (project / "flowers.csv").write_text(
        "sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n"
    )
    answers = []
    with serving(*words, port=port, log=log, cwd=project, PATH=path_of(bin_)) as (u, _):
        for body in bodies:
            kind = {"Content-Type": "application/json"}
            data = json.dumps(body).encode()
            answers.append(get_json(urllib.request.Request(f"{u}/run", data, kind)))
    assert [answer["status"] for answer in answers] == ["success", "failure", "success"]
    assert "Did you mean model_options?" in answers[1]["error"]["message"]
    trained, scored = recorded(project)
    assert trained.params["model_options.C"] == "0.7"
    assert trained.params["model_options.max_iter"] == "99"
    assert scored.metrics["rows"] == 1


def test_a_new_parameter_is_taken_with_a_warning(kedro, project):
    done = kedro("run", "--pipelines=data_engineering", "--params=extra1=1")
    assert "Parameter extra1 is new" in " ".join(done.stdout.split())
    (one,) = recorded(project)
    assert one.params["extra1"] == "1"


def test_pytest_of_a_project_is_strict(project, fork, bin_):
    file = project / "tests" / "test_own.py"
    pytest_ = (bin_ / "python", "-m", "pytest", "-q", file)
    file.write_text("import pytest\n@pytest.mark.slwo\ndef test(): pass\n")
    assert "slwo" in fork.run(*pytest_, cwd=project, ok=False).stdout
    file.write_text(
        "import warnings\ndef test(): warnings.warn('ours', stacklevel=1)\n"
    )
    assert "UserWarning: ours" in fork.run(*pytest_, cwd=project).stdout
