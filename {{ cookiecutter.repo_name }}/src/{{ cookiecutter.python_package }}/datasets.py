"""A dataset for tables that are larger than memory."""

from collections.abc import Iterable

import pandas as pd
from kedro_datasets.pandas import CSVDataset


class ChunkedCSVDataset(CSVDataset):
    """A CSV file that is written chunk by chunk, and replaced when it is complete."""

    def save(self, data: Iterable[pd.DataFrame]) -> None:
        """Write tables one below the other; if one raises, the old file stays."""
        path = self._filepath.as_posix()
        part = f"{path}.part"
        try:
            with self._fs.open(part, "w", encoding="utf-8", newline="") as file:
                for number, chunk in enumerate(data):
                    chunk.to_csv(file, index=False, header=number == 0)
            self._fs.mv(part, path)
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)
