"""Tables that are larger than memory: Arrow reads and writes them in chunks."""

import codecs
import csv
import difflib
import io
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NewType

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from kedro.io import Version
from kedro_datasets.pandas import CSVDataset
from pyarrow import csv as arrow_csv
from pyarrow import parquet

BLOCK = 1 << 19  # bytes of a CSV file in a chunk
OPTIONS = {"sep": ",", "decimal": ".", "encoding": "utf-8"}  # of `load_args`
SAME_OPTIONS = {"delimiter": "sep", "separator": "sep"}
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Score = Callable[[pd.DataFrame], pd.DataFrame]
TablePreview = NewType("TablePreview", dict)  # Kedro-Viz goes by this name


@dataclass
class Chunks:
    """A table in a file. Each iteration reads it again, chunk by chunk.

    Attributes:
        path: The file, for messages.
        schema: Its columns.
        read: Returns its rows, as tables of Arrow.
        decimal: The decimal point of numbers in columns of text.
    """

    path: str
    schema: pa.Schema
    read: Callable[[], Iterable[pa.Table]]
    decimal: str = "."

    def __iter__(self) -> Iterator[pa.Table]:
        tables = iter(self.read())
        yield next(tables, self.schema.empty_table())
        yield from tables

    def with_columns(
        self,
        function: Callable[..., pd.DataFrame],
        columns: list[str],
        report: Callable[[int, Any], None] | None = None,
        count: Callable[[], Any] | None = None,
    ) -> "Chunks":
        """Append the columns that a function computes while the chunks are read.

        Args:
            function: Takes a pandas table of ``columns``, and returns a table with as
                many rows. If the file has no rows or lacks a column, the function gets
                the whole header without rows, and should refuse it.
            columns: What the function needs. All other columns stay as they are.
            report: Is called when all rows have been read, with their number and with
                what was counted.
            count: Makes something that counts, which the function gets as its second
                argument. What several workers have counted is put together by its
                method ``merge``.

        Raises:
            ValueError: Names the file, the rows, and why the function refused them.
        """

        def read() -> Iterator[pa.Table]:
            rows, counters = 0, count() if count else None

            def compute(data: pd.DataFrame) -> pd.DataFrame:
                return function(data, counters) if count else function(data)

            for table in filter(len, self):
                yield self._append(table, compute, columns, rows)
                rows += len(table)
            if not rows:
                self._call(compute, self.schema.empty_table(), [], self.path)
            if report:
                report(rows, counters)

        return Chunks(self.path, self.schema, read, self.decimal)

    def _append(
        self, table: pa.Table, function: Score, columns: list[str], before: int
    ) -> pa.Table:
        where = f"{self.path}, rows {before + 1} to {before + len(table)}"
        answers = self._call(function, table, columns, where)
        if len(answers) != len(table):
            raise ValueError(f"{where}: {len(answers)} answers for {len(table)} rows")
        new = pa.Table.from_pandas(answers, preserve_index=False)
        for field, column in zip(new.schema, new.columns, strict=True):
            if field.name in table.column_names:
                message = f"has a column {field.name} already: rename it"
                raise ValueError(f"{self.path}: {message}")
            table = table.append_column(field.remove_metadata(), column)
        return table.replace_schema_metadata()  # pandas would take columns for an index

    def _call(
        self, function: Score, table: pa.Table, columns: list[str], where: str
    ) -> pd.DataFrame:
        """Call the function with a table's columns, or with all names of the header."""
        names = table.column_names
        for name in columns:
            if names.count(name) > 1:
                message = f"has {names.count(name)} columns {name}: rename the others"
                raise ValueError(f"{self.path}: {message}")
        if columns and all(name in names for name in columns):
            needed = [self._plain(table[name]) for name in columns]
            data = pa.table(needed, columns).to_pandas()
        else:
            data, where = pd.DataFrame(columns=names), self.path
        try:
            return function(data)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def _plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Give numbers a decimal point; beside decimal commas, 1.234 is no number."""
        if pa.types.is_dictionary(column.type):
            return column.cast(column.type.value_type)
        if self.decimal == "." or not pa.types.is_string(column.type):
            return column
        replace: Any = pc.replace_substring  # type: ignore
        return replace(replace(column, ".", "?"), self.decimal, ".")


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
            close = difflib.get_close_matches(str(name).lower(), OPTIONS, 1)
            near = SAME_OPTIONS.get(name) or "".join(close)
            hint = f", did you mean {near}?" if near else ""
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
    encoding = codecs.lookup(options["encoding"]).name
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding  # without the mark
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
    guess = next((name for mark, name in MARKS.items() if start.startswith(mark)), "")
    if not guess and b"\0" in start[:100]:
        guess = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    if not guess:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(start)
            guess = "utf-8" if codecs.lookup(encoding).name != "utf-8" else "cp1252"
        except UnicodeDecodeError:
            guess = "cp1252"
    return ValueError(
        f"{path}: is not text in {encoding}, perhaps in {guess}: "
        f"set load_args: encoding in catalog.yml"
    )


def write_file(fs: Any, path: str, data: Any) -> None:
    """Write tables into a CSV or Parquet file, replaced when they are whole."""
    write = write_parquet if path.endswith(".parquet") else write_csv
    if isinstance(data, Chunks) and write is write_csv:
        check_csv_types(data.schema, data.path)
    one = isinstance(data, pd.DataFrame | pa.Table)
    tables = map(as_arrow, [data] if one else data)
    part = f"{path}.{uuid.uuid4().hex}.part"  # nobody else's
    try:
        with fs.open(part, "wb") as file:
            write(tables, file)
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
