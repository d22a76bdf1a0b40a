"""Models served by further servers: probabilities, and an environment made by uv."""

import json
import shutil

import pytest
from runs import REPO
from served import CHAMPION, SETOSA, VIRGINICA, champion, on_path, serve, split


@pytest.fixture(scope="module")
def trained(generated, bin_, fork, tmp_path_factory):
    """Return a project whose champion answers with probabilities."""
    project = shutil.copytree(generated, tmp_path_factory.mktemp("served") / REPO)
    words = ("run", "--params=log_options.pyfunc_predict_fn=predict_proba")
    fork.run(bin_ / "kedro", *words, cwd=project, **on_path(bin_))
    return project


def test_serves_probabilities_in_the_order_of_the_signature(bin_, trained):
    code = f"signature = mlflow.models.get_model_info({CHAMPION!r}).signature"
    code += "\nprint(*signature.outputs.input_names())"
    names = champion(bin_, trained, code).split()
    classes = [name.removeprefix("probability_") for name in names]
    assert sorted(classes) == ["setosa", "versicolor", "virginica"]
    with serve(bin_, trained, CHAMPION) as ask:
        status, answer = ask(split(SETOSA, VIRGINICA))
    assert status == 200, answer
    rows = json.loads(answer)["predictions"]
    assert [sum(row) for row in rows] == pytest.approx([1, 1])
    best = [classes[row.index(max(row))] for row in rows]
    assert best == ["setosa", "virginica"]


def test_serves_in_an_environment_that_uv_makes(bin_, trained, fork):
    fork.run(bin_ / "kedro", "run", cwd=trained, **on_path(bin_))
    with serve(bin_, trained, CHAMPION, manager="uv") as ask:
        assert ask(split(SETOSA)) == (200, '{"predictions": ["setosa"]}')
