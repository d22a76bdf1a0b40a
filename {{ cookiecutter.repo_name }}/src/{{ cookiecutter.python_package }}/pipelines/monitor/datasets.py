"""A dataset for labels that arrive after the rows were scored."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from kedro.io import DatasetError

from {{ cookiecutter.python_package }}.chunks import Chunks
from {{ cookiecutter.python_package }}.datasets import ChunkedDataset


class LabelledDataset(ChunkedDataset):
    """A table of measures and labels, or of labels that are joined to a scored table.

    Only the labels are held in memory. Scored rows without a label are left out.
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        scored: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Take the arguments of ``ChunkedDataset``, and what is joined.

        Args:
            id: The column that both tables have; None joins nothing.
            scored: The arguments of ``ChunkedDataset`` for the scored table.
            options: The arguments of ``ChunkedDataset``.
        """
        super().__init__(**options)
        self._id, self._scored = id, scored

    def load(self) -> Chunks:
        """Return the table as ``Chunks``."""
        labels = super().load()
        if self._id is None:
            return labels
        scored = ChunkedDataset(**(self._scored or {})).load()
        for chunks in (labels, scored):
            if self._id not in chunks.schema.names:
                found = ", ".join(chunks.schema.names)
                message = f"{chunks.path} has no column {self._id}; found: {found}"
                raise DatasetError(message)
        return join(scored, labels, self._id)


def join(scored: Chunks, labels: Chunks, id: str) -> Chunks:
    """Return the scored rows that have a label, with their labels."""
    kept = [name for name in scored.schema.names if name not in labels.schema.names]
    known = pa.concat_tables(labels)
    key = scored.schema.field(id)
    place = known.schema.get_field_index(id)
    known = known.set_column(place, id, known[id].cast(key.type))

    is_in: Any = pc.is_in  # type: ignore

    def read() -> Iterator[pa.Table]:
        for table in scored:
            # To join all labels would take ten times as long for each chunk.
            few = known.filter(is_in(known[id], value_set=table[id]))
            yield table.select([id, *kept]).join(few, id, join_type="inner")

    first = [key, *(scored.schema.field(name) for name in kept)]
    rest = [field for field in known.schema if field.name != id]
    return Chunks(labels.path, pa.schema([*first, *rest]), read, labels.decimal)
