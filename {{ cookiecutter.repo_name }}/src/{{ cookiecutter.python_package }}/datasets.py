"""A dataset for tables that are larger than memory."""

from kedro_datasets.pandas import CSVDataset


class ChunkedCSVDataset(CSVDataset):
    """A CSV file that is written chunk by chunk, and replaced when it is complete."""

    def save(self, data) -> None:
        """Write an iterable of tables, one below the other.

        If it raises, the previous file is still there, and whole.
        """
        path = self._filepath.as_posix()
        with self._fs.open(f"{path}.part", "w", encoding="utf-8", newline="") as file:
            for number, chunk in enumerate(data):
                chunk.to_csv(file, index=False, header=number == 0)
        self._fs.mv(f"{path}.part", path)
