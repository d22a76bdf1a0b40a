"""A dataset for tables that are larger than memory."""

import inspect
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import CSVDataset
from pyarrow import csv, parquet

BLOCK = 1 << 19  # bytes of a CSV file in a chunk


class ChunkedDataset(CSVDataset):
    """A CSV or Parquet file, by its name, that Arrow reads and writes in chunks.

    The columns of a CSV file are text, and so come out as they went in. Of
    ``load_args`` only ``sep`` is known.
    """

    # Kedro shows a dataset's arguments by the names in its own `__init__`.
    __init__ = inspect.unwrap(CSVDataset.__init__)

    def load(self) -> Any:
        """Return an iterator of tables; of an empty one if there are no rows."""
        sep = self._load_args.get("sep", ",")
        return read(self._fs, self._get_load_path().as_posix(), sep)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write tables one below the other; if one raises, the old file stays."""
        frames = [data] if isinstance(data, pd.DataFrame) else data
        tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
        path = self._get_save_path().as_posix()
        part = f"{path}.{uuid.uuid4().hex}.part"  # nobody else's
        try:
            with self._fs.open(part, "wb") as file:
                write = write_parquet if path.endswith(".parquet") else write_csv
                write(tables, file)
            self._fs.mv(part, path)
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        first: Any = next(self.load()).head(nrows).to_dict(orient="split")
        return first


def read(fs: Any, path: str, sep: str = ",") -> Iterator[pd.DataFrame]:
    """Return a file's chunks, all columns of a CSV file as text."""
    file = fs.open(path)
    if path.endswith(".parquet"):
        table = parquet.ParquetFile(file)
        return chunks(table.iter_batches(), table.schema_arrow.names, path)
    names = list(pd.read_csv(file, sep=sep, nrows=0))
    file.seek(0)
    text = dict.fromkeys(names, pa.string())
    batches = csv.open_csv(
        file,
        csv.ReadOptions(column_names=names, skip_rows=1, block_size=BLOCK),
        csv.ParseOptions(delimiter=sep, newlines_in_values=True),
        csv.ConvertOptions(column_types=text, strings_can_be_null=False),
    )
    return chunks(batches, names, path)


def chunks(batches: Iterable, names: list, path: str) -> Iterator[pd.DataFrame]:
    """Yield Arrow's batches as tables of pandas."""
    chunk = None
    try:
        for batch in batches:
            yield (chunk := batch.to_pandas())
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
    if chunk is None:
        yield pd.DataFrame(columns=names)


def write_parquet(tables: Iterator[pa.Table], file: Any) -> None:
    """Write tables with the first one's schema."""
    first = next(tables)
    with parquet.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table.cast(first.schema))


def write_csv(tables: Iterator[pa.Table], file: Any) -> None:
    """Write tables, in quotes where a text needs them."""
    for number, table in enumerate(tables):
        try:  # Arrow's own "needed" puts quotes around every text
            file.write(as_csv(table, number == 0, "none"))
        except pa.ArrowInvalid:
            file.write(as_csv(table, number == 0, "needed"))


def as_csv(table: pa.Table, header: bool, quotes: str) -> pa.Buffer:
    """Return a table as CSV."""
    text = pa.BufferOutputStream()
    styles = {"quoting_style": quotes, "quoting_header": quotes}
    csv.write_csv(table, text, csv.WriteOptions(include_header=header, **styles))
    return text.getvalue()
