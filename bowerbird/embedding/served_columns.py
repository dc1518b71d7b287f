"""Columns of keys, each of a served table of its own, looked up by one native call."""

from __future__ import annotations

import math
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

    def find(self, keys: Keys) -> Rows:
        """Return the rows of keys [columns, ...], int64 in their shape."""
        return self._native.find(keys.reshape(-1), math.prod(keys.shape[1:])).reshape(keys.shape)

    def take(self, rows: Sequence[Rows]) -> list[Vectors]:
        """Return each column's vectors, float32 [*shape, dimension], of rows of one shape.

        Raises InputError for a row that is not there.
        """
        if not rows:
            return []
        shape, flat = rows[0].shape, np.concatenate(rows, axis=None, dtype=np.int64)
        vectors = self.take_flat(flat.reshape(len(rows), -1))
        return list(parted(vectors, [(*shape, width) for width in self._widths]))

    def take_flat(self, rows: Rows) -> Vectors:
        """Return the vectors of rows [columns, ...], flat float32, column after column.

        Raises InputError for a row that is not there.
        """
        with refusals():
            return self._native.take(rows.reshape(-1).astype(np.int64, copy=False), math.prod(rows.shape[1:]))
