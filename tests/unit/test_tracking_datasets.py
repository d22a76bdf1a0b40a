"""``tracking.datasets``: the inputs of a run."""

import os
import subprocess

import mlflow
import pandas as pd
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline


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


def test_what_has_no_digest_is_named_in_a_tag(tracking, active_run):
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "numbers", None, [1, 2])
    run = mlflow.get_run(active_run.info.run_id)
    assert run.data.tags["data.numbers.digest"].startswith("none: list is neither")
    assert not run.inputs.dataset_inputs
