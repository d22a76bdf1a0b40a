"""What the tools around a project make of it: type checkers, Kedro's own, Jupyter."""

import json
import re
import sys
import urllib.request

import pytest
import yaml
from runs import PACKAGE, free_port, path_of, recorded, run, serving

# Takes each node's cells from the magic as IPython would show them, and runs them.
LOAD_NODES = """
%load_ext kedro.ipython
shell = get_ipython()
for node in (pipelines["__default__"] + pipelines["score"]).nodes:
    shell.run_line_magic("load_node", node.name)
    shell.run_cell(shell.rl_next_input).raise_error()
    print("loaded:", node.name)
"""
# Kedro's use of the newest OmegaConf, and MLflow's search for pip, which uv leaves out.
THIRD_PARTY = ("kedro/config/omegaconf_config.py", "Failed to resolve installed pip")


@pytest.fixture
def ran(project, kedro):
    """Return a project that has trained a model and scored with it."""
    kedro("run")
    kedro("run", "--pipelines=score")
    return project


def get(url: str):
    """Return the JSON that an address answers with."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def test_pyright_has_nothing_to_say(generated, bin_):
    python = f"--pythonpath={bin_ / 'python'}"
    run(sys.executable, "-m", "pyright", python, cwd=generated)


def test_mypy_has_nothing_to_say(generated, bin_, tmp_path):
    python = f"--python-executable={bin_ / 'python'}"
    cache = f"--cache-dir={tmp_path}"
    run(sys.executable, "-m", "mypy", python, cache, cwd=generated)


def test_bandit_has_nothing_of_weight_to_say(generated):
    run(sys.executable, "-m", "bandit", "-q", "-ll", "-r", ".", cwd=generated)


def test_load_node_gives_cells_that_run(ran, bin_, tmp_path):
    script = tmp_path / "cells.ipy"
    script.write_text(LOAD_NODES)
    done = run(bin_ / "ipython", script, cwd=ran, PATH=path_of(bin_))
    loaded = set(re.findall(r"^loaded: (\w+)$", done.stdout, re.M))
    assert {"split_data", "train_model", "promote_model", "score_flowers"} <= loaded
    described = run(bin_ / "kedro", "registry", "describe", cwd=ran).stdout
    assert set(re.findall(r"^- (\w+)", described, re.M)) <= loaded


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


@pytest.mark.parametrize(
    "words",
    [
        "kedro run",
        "mlflow run . --env-manager=local",
        "kedro registry list",
        "kedro catalog describe-datasets",
        "kedro catalog resolve-patterns",
    ],
)
def test_a_fresh_project_causes_no_warning(project, bin_, words):
    tool, *options = words.split()
    env = {"PATH": path_of(bin_), "COLUMNS": "500"}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{project / 'mlflow.db'}"
    done = run(bin_ / tool, *options, cwd=project, **env)
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
            answers.append(get(urllib.request.Request(f"{u}/run", data, kind)))
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


def test_kedro_viz_shows_layers_and_previews(ran, workbench):
    # Kedro-Viz takes no port above those that are registered.
    port = next(port for port in iter(free_port, None) if port <= 49151)
    log = ran.parent / "viz.log"
    words = (workbench / "kedro", "viz", "run", "--no-browser", f"--port={port}")
    options = {"health": "api/main", "cwd": ran, "PATH": path_of(workbench)}
    with serving(*words, port=port, log=log, **options) as (url, _):
        nodes = get(f"{url}/api/main")["nodes"]
        nodes += get(f"{url}/api/pipelines/score")["nodes"]
        data = {node["name"]: node for node in nodes if node["type"] == "data"}
        for node in data.values():
            node |= get(f"{url}/api/nodes/{node['id']}")
    layers = {name: node["layer"] for name, node in data.items()}
    assert layers["iris"] == layers["new_flowers"] == "raw"
    assert None not in layers.values()
    previews = {name: node.get("preview") for name, node in data.items()}
    assert previews["new_flowers"]["columns"][0] == "flower"
    assert len(previews["new_flowers"]["data"]) == len(previews["iris"]["data"]) == 5
    assert "species" in previews["scored_flowers"]["columns"]
    # A pickle has no picture.
    assert {name for name, shown in previews.items() if not shown} == {"model"}


def test_plain_uv_sync_brings_what_tests_need(project):
    run("uv", "sync", "--quiet", cwd=project)
    run("uv", "run", "pytest", "--version", cwd=project)
    run("uv", "run", "ruff", "check", cwd=project)
    run("uv", "run", "python", "-c", f"import {PACKAGE}, IPython", cwd=project)


def test_pytest_of_a_project_shows_no_warnings(project, bin_):
    done = run(bin_ / "python", "-m", "pytest", cwd=project)
    assert "passed" in done.stdout and "warning" not in done.stdout


def test_pytest_of_a_project_is_strict(project, bin_):
    file = project / "tests" / "test_own.py"
    pytest_ = (bin_ / "python", "-m", "pytest", "-q", file)
    file.write_text("import pytest\n@pytest.mark.slwo\ndef test(): pass\n")
    assert "slwo" in run(*pytest_, cwd=project, ok=False).stdout
    file.write_text(
        "import warnings\ndef test(): warnings.warn('ours', stacklevel=1)\n"
    )
    assert "UserWarning: ours" in run(*pytest_, cwd=project).stdout
