"""The registered champion, served for real: what it answers and what it refuses."""

import json
import shutil

import pytest
from runs import REPO
from served import (
    CHAMPION,
    COLUMNS,
    CSV,
    JSON,
    SETOSA,
    VIRGINICA,
    champion,
    serve,
    split,
)


@pytest.fixture(scope="module")
def trained(trained, tmp_path_factory):
    """Return a project in which one model has been trained."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("served") / REPO)


@pytest.fixture(scope="module")
def ask(bin_, trained):
    with serve(bin_, trained, CHAMPION) as ask:
        yield ask


def record(**changes) -> dict:
    return {"dataframe_records": [dict(zip(COLUMNS, SETOSA, strict=True)) | changes]}


def csv(*rows) -> str:
    return "\n".join(",".join(map(str, row)) for row in (COLUMNS, *rows))


ANSWERED = {
    "one row": (split(SETOSA), JSON, ["setosa"]),
    "two rows": (split(VIRGINICA, SETOSA), JSON, ["virginica", "setosa"]),
    "records": (record(), JSON, ["setosa"]),
    "inputs": ({"inputs": record()["dataframe_records"]}, JSON, ["setosa"]),
    "CSV": (csv(SETOSA, VIRGINICA), CSV, ["setosa", "virginica"]),
    "integers": (split([5, 3, 1, 0]), JSON, ["setosa"]),
    "CSV of integers": (csv([7, 3, 6, 2]), CSV, ["virginica"]),
    "extra column": (split([*SETOSA, "x"], columns=[*COLUMNS, "a"]), JSON, ["setosa"]),
    "other order": (
        split(VIRGINICA[::-1], columns=COLUMNS[::-1]),
        JSON,
        ["virginica"],
    ),
    "charset": (split(SETOSA), f"{JSON}; charset=utf-8", ["setosa"]),
}
NOT_A_NUMBER, INFINITE = "Input X contains NaN", "Input X contains infinity"
REFUSED = {
    "missing column": (split(SETOSA[:3], columns=COLUMNS[:3]), JSON, "petal_width"),
    "wrong type": (record(sepal_width="wide"), JSON, "sepal_width"),
    "wrong type in CSV": (csv([5, "wide", 1, 0]), CSV, "wide"),
    "null": (record(sepal_width=None), JSON, NOT_A_NUMBER),
    "gap in CSV": (csv([5, "", 1, 0]), CSV, NOT_A_NUMBER),
    "NaN": (split([5, float("nan"), 1, 0]), JSON, NOT_A_NUMBER),
    "infinity": (split([5, float("inf"), 1, 0]), JSON, INFINITE),
    "number too large": (json.dumps(record()).replace("5.1", "1e999"), JSON, INFINITE),
    "no rows": (split(), JSON, "0 sample(s)"),
    "no records": ({"dataframe_records": []}, JSON, "missing inputs"),
    "unknown key": ({"rows": [SETOSA]}, JSON, "dataframe_split"),
    "a list": (json.dumps([SETOSA]), JSON, "dataframe_split"),
    "not JSON": ("{hello", JSON, "valid JSON"),
    "not UTF-8": (b"\xff\xfe", JSON, "valid JSON"),
    "content type": (split(SETOSA), "text/plain", "content types"),
    "other charset": (split(SETOSA), f"{JSON}; charset=latin-1", "UTF-8"),
}


@pytest.mark.parametrize("body, mime, species", ANSWERED.values(), ids=ANSWERED)
def test_answers_with_the_names_of_the_species(ask, body, mime, species):
    status, answer = ask(body, mime)
    assert status == 200, answer
    assert json.loads(answer) == {"predictions": species}


@pytest.mark.parametrize("body, mime, problem", REFUSED.values(), ids=REFUSED)
def test_refuses_bad_input_naming_the_problem_and_stays_up(ask, body, mime, problem):
    status, answer = ask(body, mime)
    assert 400 <= status < 500, answer
    assert problem in answer
    assert ask(split(SETOSA)) == (200, '{"predictions": ["setosa"]}')


def test_answers_a_hundred_thousand_rows(ask):
    status, answer = ask(csv(*[SETOSA, VIRGINICA] * 50_000), CSV)
    assert status == 200
    assert json.loads(answer)["predictions"] == ["setosa", "virginica"] * 50_000


def test_loads_the_champion_where_unpickling_is_impossible(bin_, fork, trained):
    code = f"""
import pickle, sys
import pandas as pd, sklearn.pipeline, skops.io

def refuse(event, arguments):
    if event == "pickle.find_class":
        raise PermissionError(*arguments[1:])

sys.addaudithook(refuse)
try:
    pickle.loads(pickle.dumps(sklearn.pipeline.Pipeline([])))
except PermissionError:
    model = mlflow.pyfunc.load_model({CHAMPION!r})
    print(*model.predict(pd.DataFrame([{SETOSA}], columns={COLUMNS})))
"""
    assert champion(bin_, trained, code, run=fork.run) == "setosa"


def test_model_folder_holds_no_pickle(bin_, fork, trained):
    code = f"print(mlflow.artifacts.download_artifacts({CHAMPION!r}, dst_path='model'))"
    champion(bin_, trained, code, run=fork.run)
    files = {file.name for file in (trained / "model").iterdir()}
    files.discard("registered_model_meta")  # MLflow 3.17 adds it, and 3.18 does not
    assert files == {
        "MLmodel",
        "conda.yaml",
        "input_example.json",
        "model.skops",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    }
    assert "skops_trusted_types: null" in (trained / "model" / "MLmodel").read_text()
