"""Type checkers, Kedro-Viz and uv: they need the packages of the project's groups."""

import sys

from runs import PACKAGE, free_port, get_json, path_of, run, serving


def test_pyright_has_nothing_to_say(generated, workbench):
    python = f"--pythonpath={workbench / 'python'}"
    run(sys.executable, "-m", "pyright", python, cwd=generated)


def test_mypy_has_nothing_to_say(generated, workbench, tmp_path):
    python = f"--python-executable={workbench / 'python'}"
    cache = f"--cache-dir={tmp_path}"
    run(sys.executable, "-m", "mypy", python, cache, cwd=generated)


def test_kedro_viz_shows_layers_and_previews(scored_project, workbench):
    # Kedro-Viz takes no port above those that are registered.
    port = next(port for port in iter(free_port, None) if port <= 49151)
    log = scored_project.parent / "viz.log"
    words = (workbench / "kedro", "viz", "run", "--no-browser", f"--port={port}")
    options = {"health": "api/main", "cwd": scored_project, "PATH": path_of(workbench)}
    with serving(*words, port=port, log=log, **options) as (url, _):
        nodes = get_json(f"{url}/api/main")["nodes"]
        nodes += get_json(f"{url}/api/pipelines/score")["nodes"]
        data = {node["name"]: node for node in nodes if node["type"] == "data"}
        for node in data.values():
            node |= get_json(f"{url}/api/nodes/{node['id']}")
    layers = {name: node["layer"] for name, node in data.items()}
    assert layers["iris"] == layers["new_flowers"] == "raw"
    # What is only in memory has no catalog entry to name its layer.
    assert {name for name, layer in layers.items() if not layer} == {"watch"}
    previews = {name: node.get("preview") for name, node in data.items()}
    assert previews["new_flowers"]["columns"][0] == "flower"
    assert len(previews["new_flowers"]["data"]) == len(previews["iris"]["data"]) == 5
    assert "species" in previews["scored_flowers"]["columns"]
    # A pickle has no picture.
    assert {name for name, shown in previews.items() if not shown} == {"model", "watch"}


def test_plain_uv_sync_brings_what_tests_need(project):
    run("uv", "sync", "--quiet", cwd=project)
    run("uv", "run", "pytest", "--version", cwd=project)
    run("uv", "run", "ruff", "check", cwd=project)
    run("uv", "run", "python", "-c", f"import {PACKAGE}, IPython", cwd=project)
