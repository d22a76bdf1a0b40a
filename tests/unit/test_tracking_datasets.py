"""``tracking.datasets``: the inputs of a run."""

import json
import os
import subprocess

import mlflow
import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from mlflow.data.pandas_dataset import from_pandas


def test_digests_are_those_of_md5sum_and_sha256sum(tracking, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(os.urandom(3 << 20))
    for algorithm in ("md5", "sha256"):
        said = subprocess.run([f"{algorithm}sum", file], capture_output=True, text=True)
        assert tracking.datasets.file_digest(file, algorithm) == said.stdout.split()[0]
    assert tracking.datasets.md5(file.read_bytes()) == tracking.datasets.file_digest(
        file
    )


def test_input_files_are_digested_and_others_are_none(tracking, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a\n1\n")
    asked = {"mlflow": {"artifact_path": "data"}}
    text = {"type": "text.TextDataset"}
    catalog = DataCatalog.from_config(
        dict(
            local=text | {"filepath": str(file), "metadata": asked},
            uri=text | {"filepath": file.as_uri()},
            missing=text | {"filepath": str(tmp_path / "none")},
            memory={"type": "MemoryDataset"},
        )
    )
    names = ["local", "uri", "missing", "memory", "params:x"]
    pipeline = Pipeline([Node(lambda *given: 1, names, "out")])
    found = tracking.datasets.input_files(pipeline, catalog)
    digest = tracking.datasets.file_digest(file)
    for name in ("local", "uri"):
        assert (found[name].path, found[name].digest) == (file, digest)
        assert not found[name].versioned
    assert found["missing"] is found["memory"] is None
    assert "params:x" not in found


def only_input(run):
    (entry,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    return entry.dataset


def test_a_tables_file_is_logged_with_digest_and_schema(tracking, active_run, tmp_path):
    path = tmp_path / "iris.csv"
    file = tracking.catalog_files.DataFile(path, {}, "abc")
    tracking.datasets.log_input_or_warn(
        active_run.info.run_id, "iris", file, pd.DataFrame({"a": [1]})
    )
    dataset = only_input(active_run)
    assert (dataset.name, dataset.digest) == ("iris", "abc")
    assert path.as_uri() in dataset.source and '"a"' in dataset.schema


def test_a_table_without_a_file_has_a_digest_of_its_rows(tracking, active_run):
    for number in (1, 1, 2):
        table = pd.DataFrame({"a": [number], "b": ["text"]})
        tracking.datasets.log_input_or_warn(active_run.info.run_id, "t", None, table)
    run = mlflow.get_run(active_run.info.run_id)
    assert len({d.dataset.digest for d in run.inputs.dataset_inputs}) == 2


def test_a_file_that_is_no_table_is_logged_by_its_digest(
    tracking, active_run, tmp_path
):
    file = tracking.catalog_files.DataFile(tmp_path / "a.txt", {}, "abc")
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "text", file, "text")
    dataset = only_input(active_run)
    assert (dataset.digest, dataset.source_type) == ("abc", "local")
    assert file.path.as_uri() in dataset.source


MANY = 1_000
TABLES = {
    "numbers": {"a": range(MANY), "b": [0.5] * MANY, "c": [True] * MANY},
    "a missing number": {"a": [0.5] * (MANY - 1) + [None], "b": range(MANY)},
    "text": {"a": ["x"] * MANY},
    "text of NumPy's": {"a": pd.Series(["x"] * MANY, dtype=object)},
    "a missing text": {"a": ["x"] * (MANY - 1) + [None]},
    "a missing text first": {"a": [None] + ["x"] * (MANY - 1)},
    "nullable text": {"a": pd.array([None] + ["x"] * (MANY - 1), dtype="string")},
    "text, gaps and a number": {"a": ["x", float("nan")] + ["y"] * (MANY - 3) + [0.5]},
    "no value": {"a": [None] * MANY},
    "two types": {"a": [1] * (MANY - 1) + ["x"]},
    "whole and other numbers": {"a": pd.Series([1] * 999 + [0.5], dtype=object)},
    "categories": {"a": pd.Categorical(["x", "y"] * 500)},
    "categories of two types": {"a": pd.Categorical([1] * (MANY - 1) + ["x"])},
    "a missing category": {"a": pd.Categorical([1] * (MANY - 1) + [None])},
    "nullable": {"a": pd.array([1] * (MANY - 1) + [None], dtype="Int64")},
    "dates": {"a": pd.date_range("2026-01-01", periods=MANY)},
    "lists": {"a": [["x"]] * (MANY - 1) + [[]]},
    "keys that some lack": {"a": [{"x": 1, "y": 1}] + [{"x": 1}] * (MANY - 1)},
    "bytes": {"a": [b"x"] * MANY},
    "no rows": {"a": []},
    "no columns": {},
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.filterwarnings("ignore:Hint")
def test_the_schema_of_a_few_rows_is_that_of_all(tracking, kind):
    table = pd.DataFrame(TABLES[kind])
    few = tracking.datasets.with_the_same_schema(table)
    assert from_pandas(few).schema == from_pandas(table).schema
    if kind not in ("lists", "keys that some lack"):
        assert len(few) <= 3


def test_columns_may_have_one_name(tracking):
    table = pd.DataFrame([[1, "x"]] * MANY, columns=["a", "a"])
    assert len(tracking.datasets.with_the_same_schema(table)) == 1


def test_the_profile_is_of_all_rows(tracking, active_run):
    table = pd.DataFrame({"a": range(MANY), "b": "x"})
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "t", None, table)
    profile = json.loads(only_input(active_run).profile)
    assert profile == {"num_rows": MANY, "num_elements": 2 * MANY}


def test_what_has_no_digest_is_named_in_a_tag(tracking, active_run):
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "numbers", None, [1, 2])
    run = mlflow.get_run(active_run.info.run_id)
    assert run.data.tags["data.numbers.digest"].startswith("none: list is neither")
    assert not run.inputs.dataset_inputs
