"""A dataset for folders of files that a Dask cluster works on."""

import sys
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any

import cloudpickle
import fsspec
import pandas as pd
from distributed import get_client  # type: ignore
from kedro.io import AbstractDataset, DatasetError

# As names: workers get the functions that these are, and would get all of a module.
from .chunks import Chunks
from .datasets import check_options, read_file, write_file

Report = Callable[[int, Any], None]


@dataclass
class Folder:
    """A table in the files of a folder, in the order of their names.

    Attributes:
        files: The files' paths.
        read: Returns the ``Chunks`` of a file; where they are computed, it calls its
            second argument with the number of rows and what was counted.
        report: Is called with both of all files when they have been written.
    """

    files: list[str]
    read: Callable[..., Chunks]
    report: Report | None = None

    def with_columns(
        self,
        function: Callable[..., pd.DataFrame],
        columns: list[str],
        report: Report | None = None,
        count: Callable[[], Any] | None = None,
    ) -> "Folder":
        """Append the columns that a function computes; as ``Chunks.with_columns``."""
        read = self.read

        def read_more(path: str, report: Report | None = None) -> Chunks:
            return read(path).with_columns(function, columns, report, count)

        return Folder(self.files, read_more, report)


class FolderDataset(AbstractDataset[Folder, Folder]):
    """A folder of CSV or Parquet files, which the workers of a cluster read and write.

    A worker handles one file at a time, in chunks. The project need not be installed on
    the workers: its functions are sent with the work.
    """

    def __init__(
        self,
        *,
        filepath: str,
        scheduler: str,
        load_args: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take a folder or an address of fsspec, and the address of a scheduler.

        ``load_args`` are those of ``ChunkedDataset``.
        """
        check_options(load_args or {})
        self._scheduler, self._load_args = scheduler, load_args or {}
        self._fs, self._folder = fsspec.url_to_fs(filepath, **(credentials or {}))
        self.metadata = metadata

    def load(self) -> Folder:
        """Return the files, which are read by the workers."""
        get_client(self._scheduler)  # fails now if there is none
        found = self._fs.find(self._folder) if self._fs.isdir(self._folder) else []
        files = [name for name in sorted(found) if name.endswith((".csv", ".parquet"))]
        if not files:
            raise DatasetError(f"{self._folder} is no folder of CSV or Parquet files")
        fs, load_args = self._fs, self._load_args
        names = read_file(fs, files[0], load_args).schema.names

        def read(path: str, report: Report | None = None) -> Chunks:
            chunks = read_file(fs, path, load_args)
            if chunks.schema.names != names:
                raise ValueError(f"{path} has other columns than {files[0]}")
            return chunks

        return Folder(files, read)

    def save(self, data: Folder) -> None:
        """Write a Parquet file for each file; if one fails, the old folder stays."""
        own = uuid.uuid4().hex  # names that nobody else uses
        part, old = f"{self._folder}.{own}.part", f"{self._folder}.{own}.old"
        try:
            self._fs.makedirs(part)
            rows, counters = self._write(data, part)
            if self._fs.exists(self._folder):
                self._fs.mv(self._folder, old, recursive=True)
            self._fs.mv(part, self._folder, recursive=True)
        finally:
            for left in (part, old):
                if self._fs.exists(left) and self._fs.exists(self._folder):
                    self._fs.rm(left, recursive=True)
        if data.report:
            data.report(rows, counters)

    def _write(self, data: Folder, folder: str) -> tuple[int, Any]:
        """Let the workers write the files; return what they have counted."""
        client = get_client(self._scheduler)
        cloudpickle.register_pickle_by_value(sys.modules[__name__.split(".")[0]])
        count = len(data.files)
        targets = [f"{folder}/part.{number:06}.parquet" for number in range(count)]
        write = partial(copy_file, self._fs, data.read)
        try:
            tasks = client.map(write, data.files, targets, pure=False)
            done: Any = client.gather(tasks)
        except (CancelledError, OSError, TimeoutError) as error:
            raise DatasetError(f"the cluster at {self._scheduler}: {error}") from error
        for left in set(self._fs.find(folder)) - set(targets):  # by killed workers
            self._fs.rm(left)
        total, *others = (counters for _, counters in done)
        for counters in others if total else ():
            total.merge(counters)
        return sum(rows for rows, _ in done), total

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder, "scheduler": self._scheduler}


def copy_file(
    fs: Any, read: Callable[..., Chunks], source: str, target: str
) -> tuple[int, Any]:
    """Write the rows of a file into another one, on a worker.

    Returns:
        The number of rows, and what was counted while they were computed.
    """
    rows, counted = 0, None

    def report(_: int, counters: Any) -> None:
        nonlocal counted
        counted = counters

    def count_rows(chunks: Chunks) -> Any:
        nonlocal rows
        for table in chunks:
            rows += len(table)
            yield table

    write_file(fs, target, count_rows(read(source, report)))
    return rows, counted
