"""Columns of keys, each of a served table of its own, looked up by one native call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bowerbird import _native
from bowerbird.embedding.rows import Rows, parted
from bowerbird.embedding.served_table import ServedTable
from bowerbird.embedding.table import Keys, Vectors, refusals


class ServedColumns:
    """The tables of some columns, in their order; immutable, for any number of threads."""

    def __init__(self, tables: Sequence[ServedTable]) -> None:
        self._widths = [table.dimension for table in tables]
        self._native = _native.ServedColumns(tuple(table.native for table in tables))

    def find(self, keys: Sequence[Keys]) -> list[Rows]:
        """Return each column's rows, int64 in its keys' shape."""
        flat = np.concatenate([each.reshape(-1) for each in keys]) if keys else np.zeros(0, np.uint64)
        rows = self._native.find(flat, [each.size for each in keys])
        return list(parted(rows, [each.shape for each in keys]))

    def take(self, rows: Sequence[Rows]) -> list[Vectors]:
        """Return each column's vectors, float32 [*shape, dimension]; InputError for a row that is not there."""
        flat = np.concatenate([each.reshape(-1) for each in rows], dtype=np.int64) if rows else np.zeros(0, np.int64)
        with refusals():
            vectors = self._native.take(flat, [each.size for each in rows])
        shapes = [(*each.shape, width) for each, width in zip(rows, self._widths, strict=True)]
        return list(parted(vectors, shapes))
