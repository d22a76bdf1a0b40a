"""A dataset for folders of files that a Dask cluster works on."""

import sys
import uuid
from typing import Any

import cloudpickle
import dask.dataframe as dd  # type: ignore
import fsspec
import mlflow
import pandas as pd
from distributed import get_client  # type: ignore
from kedro.io import AbstractDataset, DatasetError
from pyarrow import dataset as arrow

from {{ cookiecutter.python_package }} import datasets


class FolderDataset(AbstractDataset[dd.DataFrame, dd.DataFrame]):
    """A folder of CSV or Parquet files, which the cluster's workers share out.

    Each file is a partition: one worker holds all of it. The workers need neither the
    project nor a copy of it: its functions go to them with the work.
    """

    def __init__(
        self,
        *,
        filepath: str,
        scheduler: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take a folder or an address of fsspec, and the address of a scheduler."""
        self._scheduler, self._storage = scheduler, credentials or {}
        self._fs, self._folder = fsspec.url_to_fs(filepath, **self._storage)
        self.metadata = metadata

    def load(self) -> dd.DataFrame:
        """Return the rows of all files, in the order of the files' names."""
        get_client(self._scheduler)  # Dask's tables use the latest
        cloudpickle.register_pickle_by_value(sys.modules[__name__.split(".")[0]])
        found = self._fs.find(self._folder) if self._fs.isdir(self._folder) else []
        files = [name for name in sorted(found) if name.endswith((".csv", ".parquet"))]
        if not files:
            raise DatasetError(f"{self._folder} is no folder of CSV or Parquet files")
        none = next(datasets.read(self._fs, files[0])).head(0)
        fs = self._fs

        def read(path: str) -> pd.DataFrame:
            table = pd.concat(datasets.read(fs, path), ignore_index=True)
            if list(table) != list(none):
                raise ValueError(f"{path} has other columns than {files[0]}")
            table.attrs["file"] = path
            return table

        return dd.from_map(read, files, meta=none)

    def save(self, data: dd.DataFrame) -> None:
        """Write a file for each partition; if one fails, the old folder stays."""
        own = uuid.uuid4().hex  # names that nobody else uses
        part, old = f"{self._folder}.{own}.part", f"{self._folder}.{own}.old"
        where = self._fs.unstrip_protocol(part)
        try:
            data.to_parquet(
                where,
                overwrite=True,
                write_index=False,
                name_function="part.{:06}.parquet".format,  # names in the rows' order
                storage_options=self._storage,
            )
            written = arrow.dataset(part, filesystem=self._fs, format="parquet")
            mlflow.log_metric("rows", written.count_rows())
            if self._fs.exists(self._folder):
                self._fs.mv(self._folder, old, recursive=True)
            self._fs.mv(part, self._folder, recursive=True)
        finally:
            for left in (part, old):
                if self._fs.exists(left) and self._fs.exists(self._folder):
                    self._fs.rm(left, recursive=True)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder, "scheduler": self._scheduler}
