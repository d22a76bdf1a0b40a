"""``datasets``: tables in chunks, read and written by Arrow."""

import csv
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest


@pytest.fixture
def dataset(module, tmp_path):
    """Return a function that makes a dataset of a file of the test's folder."""

    def make(name: str, **options):
        made = module("datasets").ChunkedDataset
        return made(filepath=str(tmp_path / name), **options)

    return make


def write(path: Path, *rows) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def load(dataset) -> pd.DataFrame:
    return pa.concat_tables(dataset.load()).to_pandas()


def test_every_column_of_a_csv_file_is_text(dataset, tmp_path):
    write(tmp_path / "a.csv", ["id", "x"], ["007", "NA"], ["", "1e5"])
    assert load(dataset("a.csv")).to_dict("list") == {
        "id": ["007", ""],
        "x": ["NA", "1e5"],
    }


def test_a_csv_file_comes_out_as_it_went_in_across_chunks(dataset, tmp_path):
    note = 'said "two\nlines, and a comma"'
    rows = [[f"00{i}", "NA" if i % 7 else "", "x" * 20] for i in range(60_000)]
    rows[45_000][1] = note
    write(tmp_path / "in.csv", ["id", "note", "rest"], *rows)
    chunks = list(dataset("in.csv").load())
    assert len(chunks) > 2
    dataset("out.csv").save(iter(chunks))
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.reader(file))
    assert found == [["id", "note", "rest"], *rows]
    assert (tmp_path / "out.csv").read_text().startswith("id,note,rest\n000,,x")


def test_another_separator_is_a_load_argument(dataset, tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;2\n")
    found = load(dataset("a.csv", load_args={"sep": ";"}))
    assert found.to_dict("list") == {"a": ["1,5"], "b": ["2"]}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_without_rows_is_one_empty_table(dataset, name):
    dataset(f"empty_{name}").save(pd.DataFrame({"a": [], "b": []}))
    dataset(name).save(dataset(f"empty_{name}").load())
    (chunk,) = dataset(name).load()
    assert chunk.column_names == ["a", "b"] and len(chunk) == 0


def test_a_row_of_another_length_is_refused_with_the_file(dataset, tmp_path):
    write(tmp_path / "a.csv", ["a", "b"], [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="(?s)a.csv.*Expected 2 columns, got 3"):
        list(dataset("a.csv").load())


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_file_is_named(dataset, name):
    with pytest.raises(Exception, match=name):
        list(dataset(name).load())


def test_parquet_keeps_types_and_takes_the_first_tables_schema(dataset):
    table = pd.DataFrame({"id": [1, 2], "x": [0.5, None], "text": ["a", None]})
    dataset("a.parquet").save(iter([table, table.assign(id=[3.0, 4.0])]))
    found = load(dataset("a.parquet"))
    assert found["id"].tolist() == [1, 2, 3, 4] and found["id"].dtype == "int64"


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_one_table_is_saved_as_one_chunk_is(dataset, name):
    table = pd.DataFrame({"a": ["x", "y"]})
    dataset(name).save(table)
    assert load(dataset(name)).equals(table)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_that_raises_leaves_the_old_file(dataset, tmp_path, name):
    (tmp_path / name).write_text("as it was")

    def tables():
        yield pd.DataFrame({"a": ["x"]})
        raise ValueError("refused")

    with pytest.raises(Exception, match="refused"):
        dataset(name).save(tables())
    assert (tmp_path / name).read_text() == "as it was"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_preview_is_the_first_rows(dataset, tmp_path):
    write(tmp_path / "a.csv", ["a"], *[[i] for i in range(9)])
    preview = dataset("a.csv").preview(2)
    assert preview == {"index": [0, 1], "columns": ["a"], "data": [["0"], ["1"]]}
