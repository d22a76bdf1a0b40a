"""A dataset for tables that are larger than memory."""

import copy
import inspect
from collections.abc import Iterable

import pandas as pd
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import CSVDataset


class ChunkedCSVDataset(CSVDataset):
    """A CSV file that is written chunk by chunk, and replaced when it is complete."""

    # Kedro shows a dataset's arguments by the names in its own `__init__`.
    __init__ = inspect.unwrap(CSVDataset.__init__)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write tables one below the other; if one raises, the old file stays."""
        chunks = [data] if isinstance(data, pd.DataFrame) else data
        path = self._filepath.as_posix()
        part = f"{path}.part"
        try:
            with self._fs.open(part, "w", encoding="utf-8", newline="") as file:
                for number, chunk in enumerate(chunks):
                    chunk.to_csv(file, index=False, header=number == 0)
            self._fs.mv(part, path)
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz, which takes no chunks."""
        whole = copy.copy(self)
        whole._load_args = {**self._load_args, "chunksize": None}
        return CSVDataset.preview(whole, nrows)
