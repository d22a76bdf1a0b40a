"""A table that is larger than memory, as nodes get it: in chunks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


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
            more = () if counters is None else (counters,)
            for table in filter(len, self):
                where = f"{self.path}, rows {rows + 1} to {rows + len(table)}"
                data = self._select(table, columns)
                answers = call(function, where if len(data) else self.path, data, *more)
                yield self._append(table, answers, where)
                rows += len(table)
            if not rows:
                call(
                    function, self.path, pd.DataFrame(columns=self.schema.names), *more
                )
            if report:
                report(rows, counters)

        return Chunks(self.path, self.schema, read, self.decimal)

    def _select(self, table: pa.Table, columns: list[str]) -> pd.DataFrame:
        """Return some columns; only the names of all if one of them is missing."""
        names = table.column_names
        for name in columns:
            if names.count(name) > 1:
                message = f"has {names.count(name)} columns {name}: rename the others"
                raise ValueError(f"{self.path}: {message}")
        if not set(columns) <= set(names):
            return pd.DataFrame(columns=names)
        needed = [self._plain(table[name]) for name in columns]
        return pa.table(needed, columns).to_pandas()

    def _append(self, table: pa.Table, answers: pd.DataFrame, where: str) -> pa.Table:
        if len(answers) != len(table):
            raise ValueError(f"{where}: {len(answers)} answers for {len(table)} rows")
        new = pa.Table.from_pandas(answers, preserve_index=False)
        for name in new.column_names:
            if name in table.column_names:
                message = f"has a column {name} already: rename it"
                raise ValueError(f"{self.path}: {message}")
            table = table.append_column(name, new[name])
        return table.replace_schema_metadata()  # pandas would take columns for an index

    def _plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Give numbers a decimal point; beside decimal commas, 1.234 is no number."""
        if pa.types.is_dictionary(column.type):
            return column.cast(column.type.value_type)
        if self.decimal == "." or not pa.types.is_string(column.type):
            return column
        replace: Any = pc.replace_substring  # type: ignore
        return replace(replace(column, ".", "?"), self.decimal, ".")


def call(function: Callable[..., pd.DataFrame], where: str, *args: Any) -> pd.DataFrame:
    """Call a function; if it refuses its table, say where that is."""
    try:
        return function(*args)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
