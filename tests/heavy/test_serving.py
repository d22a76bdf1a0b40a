"""Models served by further servers: probabilities, and an environment made by uv."""

import json
import shutil

import pytest
from runs import REPO
from served import CHAMPION, SETOSA, VIRGINICA, champion, on_path, serve, split


@pytest.fixture(scope="module")
def trained(generated, bin_, fork, tmp_path_factory):
    """Return a project in which one model has been trained."""
    project = shutil.copytree(generated, tmp_path_factory.mktemp("served") / REPO)
    fork.run(bin_ / "kedro", "run", cwd=project, **on_path(bin_))
    return project


def test_serves_probabilities_in_the_order_of_the_signature(bin_, trained):
    run_id = champion(bin_, trained, "print(version.run_id)")
    uri = f"runs:/{run_id}/probabilities"
    code = f"signature = mlflow.models.get_model_info({uri!r}).signature"
    code += "\nprint(*signature.outputs.input_names())"
    classes = champion(bin_, trained, code).split()
    assert sorted(classes) == ["setosa", "versicolor", "virginica"]
    with serve(bin_, trained, uri) as ask:
        status, answer = ask(split(SETOSA, VIRGINICA))
    assert status == 200, answer
    rows = json.loads(answer)["predictions"]
    assert [sum(row) for row in rows] == pytest.approx([1, 1])
    best = [classes[row.index(max(row))] for row in rows]
    assert best == ["setosa", "virginica"]


def test_serves_in_an_environment_that_uv_makes(bin_, trained):
    with serve(bin_, trained, CHAMPION, manager="uv") as ask:
        assert ask(split(SETOSA)) == (200, '{"predictions": ["setosa"]}')
