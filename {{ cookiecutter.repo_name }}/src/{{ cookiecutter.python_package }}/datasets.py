"""A dataset for tables that are larger than memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from pyarrow import csv, parquet

BLOCK = 1 << 20  # bytes of a CSV file in a chunk


class ChunkedDataset(AbstractDataset[Iterable[pd.DataFrame], Iterator[pd.DataFrame]]):
    """A CSV or Parquet file, by its name, that Arrow reads and writes in chunks.

    The columns of a CSV file are text, and so come out as they went in.

    Args:
        filepath: A path, or an address that fsspec knows.
        sep: What separates the columns of a CSV file that is read.
        credentials: Arguments of fsspec's file system.
        metadata: What others ask for: the MLflow hook, Kedro-Viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        sep: str = ",",
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fs, self._path = fsspec.url_to_fs(filepath, **(credentials or {}))
        self._sep = sep
        self.metadata = metadata

    def load(self) -> Iterator[pd.DataFrame]:
        """Return the chunks; a single empty one if the table has no rows."""
        file = self._fs.open(self._path)
        if self._path.endswith(".parquet"):
            table = parquet.ParquetFile(file)
            return self._chunks(table.schema_arrow.names, table.iter_batches())
        names = list(pd.read_csv(file, sep=self._sep, nrows=0))
        file.seek(0)
        text = dict.fromkeys(names, pa.string())
        batches = csv.open_csv(
            file,
            csv.ReadOptions(column_names=names, skip_rows=1, block_size=BLOCK),
            csv.ParseOptions(delimiter=self._sep, newlines_in_values=True),
            csv.ConvertOptions(column_types=text, strings_can_be_null=False),
        )
        return self._chunks(names, batches)

    def _chunks(self, names: list, batches: Iterable) -> Iterator[pd.DataFrame]:
        chunk = None
        try:
            for batch in batches:
                yield (chunk := batch.to_pandas())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self._path}: {error}") from error
        if chunk is None:
            yield pd.DataFrame(columns=names)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write tables one below the other; if one raises, the old file stays."""
        chunks = [data] if isinstance(data, pd.DataFrame) else data
        tables = (pa.Table.from_pandas(chunk, preserve_index=False) for chunk in chunks)
        part = f"{self._path}.part"
        self._fs.makedirs(self._fs._parent(self._path), exist_ok=True)
        try:
            with self._fs.open(part, "wb") as file:
                if self._path.endswith(".parquet"):
                    write_parquet(tables, file)
                else:
                    write_csv(tables, file)
            self._fs.mv(part, self._path)
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        first: Any = next(self.load()).head(nrows).to_dict(orient="split")
        return first

    def _exists(self) -> bool:
        return self._fs.exists(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path, "sep": self._sep}


def write_parquet(tables: Iterable[pa.Table], file: Any) -> None:
    """Write tables of the first one's schema."""
    writer = None
    for table in tables:
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer:
        writer.close()


def write_csv(tables: Iterable[pa.Table], file: Any) -> None:
    """Write tables, in quotes only where a text needs them."""
    for number, table in enumerate(tables):
        for quotes in ("none", "needed"):  # Arrow's "needed" puts them around any text
            styles = {"quoting_style": quotes, "quoting_header": quotes}
            options = csv.WriteOptions(include_header=number == 0, **styles)
            text = pa.BufferOutputStream()
            try:
                csv.write_csv(table, text, options)
                break
            except pa.ArrowInvalid:
                if quotes == "needed":
                    raise
        file.write(text.getvalue())
