"""Columns that are not the model's come out as they went in."""

import csv
import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

NUMBERS = {"a": [1.0, 2.0, 3.0]}


@pytest.fixture
def dataset(module, tmp_path):
    """Return a function that makes a dataset of a file in the test's folder."""

    def make(name: str, **load_args: str):
        return module("datasets").ChunkedDataset(
            filepath=str(tmp_path / name), load_args=load_args
        )

    return make


@pytest.fixture
def double(module):
    """Return a function that answers with twice a column ``a``, as text or number."""

    def answer(data: pd.DataFrame) -> pd.DataFrame:
        module("schema").require(["a"], data)
        return pd.DataFrame({"answer": data["a"].astype(float) * 2})

    return answer


def copy(source, target, double, report=None) -> None:
    target.save(source.load().with_columns(double, ["a"], report))


def arrow_table() -> pa.Table:
    """Return columns that pandas would change."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    return pa.table(
        {
            "id": pa.array([9007199254740993, None, 4539578763621486], pa.int64()),
            "big": pa.array([2**64 - 1, None, 0], pa.uint64()),
            "yes": pa.array([True, None, False]),
            "sum": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.00")]),
            "at": pa.array(
                [datetime.datetime(2026, 1, 1, tzinfo=zone), None, None],
                pa.timestamp("us", "Europe/Berlin"),
            ),
            "day": pa.array([datetime.date(1500, 1, 1), None, None]),
            "kind": pa.array(["x", None, "y"]).dictionary_encode(),
            "note": pa.array(["", None, "NA"]),
            **NUMBERS,
        }
    )


def test_parquet_columns_come_out_as_they_went_in(dataset, double, tmp_path):
    given = arrow_table()
    parquet.write_table(given, tmp_path / "in.parquet")
    reported = []

    def report(rows, counters):
        reported.append((rows, counters))

    copy(dataset("in.parquet"), dataset("out.parquet"), double, report)
    made = parquet.read_table(tmp_path / "out.parquet")
    assert made.drop_columns("answer").equals(given) and reported == [(3, None)]
    assert made["answer"].to_pylist() == [2.0, 4.0, 6.0]


def test_integers_of_parquet_are_integers_in_csv(dataset, double, tmp_path):
    parquet.write_table(arrow_table(), tmp_path / "in.parquet")
    copy(dataset("in.parquet"), dataset("out.csv"), double)
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert [row["id"] for row in rows] == ["9007199254740993", "", "4539578763621486"]
    assert [row["big"] for row in rows] == ["18446744073709551615", "", "0"]
    assert [row["kind"] for row in rows] == ["x", "", "y"]


def test_a_null_in_the_last_chunk_changes_no_other(dataset, double, tmp_path):
    count = 140_000
    ids = pa.array([*range(2**53, 2**53 + count - 1), None], pa.int64())
    given = pa.table({"id": ids, "a": pa.array([1.0] * count)})
    parquet.write_table(given, tmp_path / "in.parquet")
    copy(dataset("in.parquet"), dataset("out.parquet"), double)
    assert parquet.read_table(tmp_path / "out.parquet")["id"].equals(given["id"])


@pytest.mark.parametrize("index", [["flower"], ["flower", "bed"], []])
def test_index_columns_are_columns(dataset, double, tmp_path, index):
    table = pd.DataFrame({"flower": ["x", "y", "z"], "bed": [1, 2, 3], **NUMBERS})
    (table.set_index(index) if index else table).to_parquet(tmp_path / "in.parquet")
    copy(dataset("in.parquet"), dataset("out.parquet"), double)
    made = pd.read_parquet(tmp_path / "out.parquet")
    assert made[list(table)].equals(table)


NESTED = {
    "list": pa.array([[1], [], None]),
    "struct": pa.array([{"x": 1}] * 3),
    "map": pa.array([[("x", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"x"] * 3),
    "large binary": pa.array([b"x"] * 3, pa.large_binary()),
}


@pytest.mark.parametrize("kind", NESTED)
def test_what_csv_cannot_hold_is_refused_before_anything_is_scored(
    dataset, tmp_path, kind, double
):
    given = pa.table({"odd": NESTED[kind], **NUMBERS})
    parquet.write_table(given, tmp_path / "in.parquet")

    def never(data):
        raise AssertionError("it was scored")

    with pytest.raises(Exception, match="in.parquet: the column odd holds.*parquet"):
        copy(dataset("in.parquet"), dataset("out.csv"), never)
    copy(dataset("in.parquet"), dataset("out.parquet"), double)
    assert parquet.read_table(tmp_path / "out.parquet")["odd"].equals(given["odd"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_answers_take_the_place_of_no_column(dataset, double, tmp_path, kind):
    table = pd.DataFrame({"answer": ["mine"] * 3, **NUMBERS})
    if kind == "csv":
        table.to_csv(tmp_path / "in.csv", index=False)
    else:
        table.to_parquet(tmp_path / "in.parquet")
    (tmp_path / "out.csv").write_text("as it was")
    with pytest.raises(Exception, match=f"in.{kind}: has a column answer already"):
        copy(dataset(f"in.{kind}"), dataset("out.csv"), double)
    assert (tmp_path / "out.csv").read_text() == "as it was"
    assert len(list(tmp_path.iterdir())) == 2


def test_headers_stay_as_they_are(dataset, double, tmp_path):
    (tmp_path / "in.csv").write_text(",note,a,note,\nx,1,2,3,y\n")
    copy(dataset("in.csv"), dataset("out.csv"), double)
    assert (tmp_path / "out.csv").read_text() == ",note,a,note,,answer\nx,1,2,3,y,4\n"


def test_a_column_of_the_model_that_is_there_twice_is_refused(
    dataset, double, tmp_path
):
    (tmp_path / "in.csv").write_text("a,a\n1,2\n")
    with pytest.raises(Exception, match="in.csv: has 2 columns a: rename"):
        copy(dataset("in.csv"), dataset("out.csv"), double)


HEADERS = {
    "quoted line break": ('"a note\nin two lines",a\nx,1\n', {}),
    "blank first line": ("\n\nnote,a\nx,1\n", {}),
    "blank lines of Windows": ("\r\nnote,a\r\nx,1\r\n", {}),
    "empty cells first": (",\nnote,a\nx,1\n", {}),
    "byte order mark": ("\ufeffa,note\n1,x\n", {}),
    "byte order mark, named": ("\ufeffa,note\n1,x\n", {"encoding": "utf-8-sig"}),
    "semicolons": ("note;a\nx;1\n", {"sep": ";"}),
    "decimal commas": ("note;a\nx,y;1,0\n", {"sep": ";", "decimal": ","}),
    "utf-16": ("note,a\né,1\n", {"encoding": "utf-16"}),
    "cp1252": ("note,a\n€,1\n", {"encoding": "cp1252"}),
    "no last line break": ("note,a\nx,1", {}),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_valid_files_are_read(dataset, double, tmp_path, kind):
    text, load_args = HEADERS[kind]
    encoded = text.encode(load_args.get("encoding", "utf-8").removesuffix("-sig"))
    (tmp_path / "in.csv").write_bytes(encoded)
    copy(dataset("in.csv", **load_args), dataset("out.csv"), double)
    (row,) = csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8", newline=""))
    assert float(row["answer"]) == 2
    assert row["a"] in ("1", "1,0") and {"x", "é", "€", "x,y"} & set(row.values())


BAD = {
    "semicolons": (b"x;a\n1;2\n", {}, "missing.*separated by ';'.*load_args: sep"),
    "no rows": (b"a\n", {}, "in.csv: the table has no rows"),
    "no rows, no line break": (b"a,b", {}, "in.csv: the table has no rows"),
    "empty": (b"", {}, "in.csv: missing column"),
    "cp1252 in a row": ("a,b\n1,é\n".encode("cp1252"), {}, "perhaps in cp1252: set"),
    "cp1252 in the header": ("a,é\n1,2\n".encode("cp1252"), {}, "perhaps in cp1252"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), {}, "perhaps in utf-16: set load_args"),
    "utf-16 without mark": ("a,b\n1,2\n".encode("utf-16-le"), {}, "in utf-16-le"),
    "utf-8": ("a,b\n1,é\n".encode(), {"encoding": "ascii"}, "perhaps in utf-8: set"),
    "a point among commas": (b"a\n1.000\n", {"decimal": ",", "sep": ";"}, "rows 1 to"),
    "a cell too many": (b"a\n1,2\n", {}, "in.csv: .*Expected 1 columns, got 2"),
}


@pytest.mark.parametrize("kind", BAD)
def test_reasons_are_the_right_ones(dataset, double, tmp_path, kind):
    content, load_args, reason = BAD[kind]
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(Exception, match=reason):
        copy(dataset("in.csv", **load_args), dataset("out.csv"), double)
    assert not (tmp_path / "out.csv").exists()


OPTIONS = {
    "usecols": ({"usecols": "a"}, "usecols is not known"),
    "a near miss": ({"encodng": "utf-8"}, "encodng is not known, did you mean encod"),
    "another name": ({"delimiter": ";"}, "delimiter is not known, did you mean sep"),
    "two characters": ({"sep": "||"}, "sep is one character"),
    "no text": ({"sep": 1}, "sep is text"),
    "the same": ({"decimal": ","}, "sep and decimal are both ','"),
    "no encoding": ({"encoding": "utf-99"}, "unknown encoding: utf-99"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_load_args_that_cannot_be_are_refused(dataset, kind):
    load_args, reason = OPTIONS[kind]
    with pytest.raises(Exception, match=reason):
        dataset("in.csv", **load_args)
