"""Files that are larger than memory: Arrow reads and writes them in chunks."""

import codecs
import contextlib
import csv
import difflib
import io
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NewType

import pandas as pd
import pyarrow as pa
from kedro.io import Version
from kedro_datasets.pandas import CSVDataset
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from .chunks import Chunks

BLOCK = 1 << 19  # bytes of a CSV file in a chunk
OPTIONS = {"sep": ",", "decimal": ".", "encoding": "utf-8"}  # of `load_args`
NAMES = {name: name for name in OPTIONS} | {"delimiter": "sep", "separator": "sep"}

TablePreview = NewType("TablePreview", dict)  # Kedro-Viz goes by this name


class ChunkedDataset(CSVDataset):
    """A CSV or Parquet file that is read and written in chunks.

    The file's name decides on the format. All columns of a CSV file are read as text,
    so that they are written as they were read.
    """

    def __init__(
        self,
        *,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the arguments of ``pandas.CSVDataset``.

        The ``load_args`` of a CSV file are ``sep``, ``decimal`` and ``encoding``.
        """
        check_options(load_args or {})
        super().__init__(
            filepath=filepath,
            load_args=load_args,
            version=version,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )

    def load(self) -> Any:
        """Return the table as ``Chunks``."""
        path = self._get_load_path().as_posix()
        return read_file(self._fs, path, self._load_args)

    def save(self, data: Chunks | pd.DataFrame | pa.Table | Iterable) -> None:
        """Write tables one below the other; if one raises, the old file stays."""
        write_file(self._fs, self._get_save_path().as_posix(), data)

    def preview(self, nrows: int = 5) -> TablePreview:  # type: ignore
        """Return the first rows for Kedro-Viz."""
        table = next(iter(self.load())).slice(0, nrows)
        frame: Any = table.to_pandas(ignore_metadata=True)
        return TablePreview(frame.to_dict(orient="split"))


def check_options(given: dict[str, Any]) -> None:
    """Refuse ``load_args`` that are unknown or have impossible values."""
    for name, value in given.items():
        if name not in OPTIONS:
            close = difflib.get_close_matches(str(name).lower(), NAMES, 1)
            hint = f", did you mean {NAMES[close[0]]}?" if close else ""
            known = ", ".join(OPTIONS)
            raise ValueError(f"load_args: {name} is not known{hint} ({known} are)")
        if not isinstance(value, str):
            raise ValueError(f"load_args: {name} is text, not {value!r}")
        if name != "encoding" and len(value) != 1:
            raise ValueError(f"load_args: {name} is one character, not {value!r}")
    options = OPTIONS | given
    if options["sep"] == options["decimal"]:
        raise ValueError(f"load_args: sep and decimal are both {options['sep']!r}")
    try:
        codecs.lookup(options["encoding"])
    except LookupError as error:
        raise ValueError(f"load_args: {error}") from error


def read_file(fs: Any, path: str, load_args: dict[str, Any]) -> Chunks:
    """Return a file's table, all columns of a CSV file as text."""
    if path.endswith(".parquet"):
        with fs.open(path) as file:
            schema = parquet.read_schema(file)
        return Chunks(path, schema, lambda: read_parquet(fs, path))
    options = OPTIONS | load_args
    names, skip, empty = read_header(fs, path, options)
    schema = pa.schema([(name, pa.string()) for name in names])

    def read() -> Iterable[pa.Table]:
        return [] if empty else read_csv(fs, path, options, schema, skip)

    return Chunks(path, schema, read, options["decimal"])


def read_parquet(fs: Any, path: str) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file."""
    with fs.open(path) as file:
        for batch in parquet.ParquetFile(file).iter_batches():
            yield pa.Table.from_batches([batch])


def read_header(
    fs: Any, path: str, options: dict[str, Any]
) -> tuple[list[str], int, bool]:
    """Return the names of a CSV file, its rows up to them, and whether it has others.

    Names may hold line breaks, and blank lines may stand before them.
    """
    utf_8 = codecs.lookup(options["encoding"]).name == "utf-8"
    encoding = "utf-8-sig" if utf_8 else options["encoding"]  # skips a mark
    try:
        with fs.open(path) as file:
            text = io.TextIOWrapper(file, encoding, newline="")
            lines = csv.reader(text, delimiter=options["sep"])
            for number, row in enumerate(lines, 1):
                if any(cell.strip() for cell in row):
                    if "\0" in "".join(row):
                        raise UnicodeError("a zero byte")
                    return row, number, not any(lines)
    except (UnicodeError, csv.Error) as error:
        raise wrong_encoding(fs, path, options["encoding"]) from error
    return [], 0, True


def read_csv(
    fs: Any, path: str, options: dict[str, Any], schema: pa.Schema, skip: int
) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file, below its header."""
    encoding = codecs.lookup(options["encoding"]).name
    numbers = [str(number) for number in range(len(schema))]  # names may be there twice
    try:
        with fs.open(path) as file:
            batches = arrow_csv.open_csv(
                file,
                arrow_csv.ReadOptions(
                    column_names=numbers,
                    skip_rows_after_names=skip,
                    block_size=BLOCK,
                    encoding="utf8" if encoding.startswith("utf-8") else encoding,
                ),
                arrow_csv.ParseOptions(
                    delimiter=options["sep"], newlines_in_values=True
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(numbers, pa.string()),
                    strings_can_be_null=False,
                ),
            )
            for batch in batches:
                yield pa.Table.from_arrays(batch.columns, schema=schema)
    except (pa.ArrowInvalid, UnicodeError) as error:
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            raise wrong_encoding(fs, path, options["encoding"]) from error
        raise ValueError(f"{path}: {error}") from error


def wrong_encoding(fs: Any, path: str, encoding: str) -> ValueError:
    """Return an error that guesses which encoding a file has."""
    with fs.open(path) as file:
        start = file.read(1 << 20)
    guess = "cp1252"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        guess = "utf-16"
    elif b"\0" in start[:100]:
        guess = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    elif codecs.lookup(encoding).name != "utf-8":
        with contextlib.suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder("utf-8")().decode(start)
            guess = "utf-8"
    return ValueError(
        f"{path}: is not text in {encoding}, perhaps in {guess}: "
        f"set load_args: encoding in catalog.yml"
    )


def write_file(fs: Any, path: str, data: Any) -> None:
    """Write tables into a CSV or Parquet file, replaced when they are whole."""
    write = write_parquet if path.endswith(".parquet") else write_csv
    if isinstance(data, Chunks) and write is write_csv:
        check_csv_types(data.schema, data.path)
    tables = [data] if isinstance(data, pd.DataFrame | pa.Table) else data
    part = f"{path}.{uuid.uuid4().hex}.part"  # nobody else's
    try:
        with fs.open(part, "wb") as file:
            write(map(as_arrow, tables), file)
        fs.mv(part, path)
    finally:
        if fs.exists(part):
            fs.rm(part)


def as_arrow(table: pd.DataFrame | pa.Table) -> pa.Table:
    """Return a table as Arrow's."""
    if isinstance(table, pd.DataFrame):
        return pa.Table.from_pandas(table, preserve_index=False)
    return table


def check_csv_types(schema: pa.Schema, where: str) -> None:
    """Refuse columns that CSV has no form for."""
    for field in schema:
        kind = field.type
        if pa.types.is_nested(kind) or "binary" in str(kind):
            raise ValueError(
                f"{where}: the column {field.name} holds {kind}, which CSV cannot: "
                f"let the output's name in catalog.yml end with .parquet"
            )


def write_parquet(tables: Iterator[pa.Table], file: Any) -> None:
    """Write tables with the first one's schema."""
    first = next(tables)
    with parquet.ParquetWriter(file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table.cast(first.schema))


def write_csv(tables: Iterator[pa.Table], file: Any) -> None:
    """Write tables, in quotes where a text needs them."""
    for number, table in enumerate(tables):
        check_csv_types(table.schema, "the output")
        try:  # Arrow's own "needed" puts quotes around every text
            file.write(as_csv(table, number == 0, "none"))
        except pa.ArrowInvalid:
            file.write(as_csv(table, number == 0, "needed"))


def as_csv(table: pa.Table, header: bool, quotes: str) -> pa.Buffer:
    """Return a table as CSV."""
    text = pa.BufferOutputStream()
    styles = {"quoting_style": quotes, "quoting_header": quotes}
    options = arrow_csv.WriteOptions(include_header=header, **styles)
    arrow_csv.write_csv(table, text, options)
    return text.getvalue()
