"""Items up to a number, in memory that is set aside once: rows are written before anybody can find them."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird import _native
from bowerbird.bundles.packed_columns import Keys, PackedColumns, Positions
from bowerbird.compiler.backends.contract import Kept
from bowerbird.kernels.pair_rows import StoredRows
from bowerbird.kernels.row_hash import hash_rows
from bowerbird.plan.spec import MISSING_KEY

Values = Mapping[str, npt.NDArray[Any]]
"""What the item stage leaves of some items, [items, *shape] by name."""


class KeptItems:
    """Features and values by the 64-bit hash of the features. A row that was written is never written again.

    So readers need no lock for what they found, and a writer holds one only to take its rows and to publish them. The
    system gives memory when a row is first written. Threads may share it. Where two make the same item at once, the
    first row counts. ``capacity`` is 1 at least.
    """

    def __init__(self, capacity: int, features: PackedColumns, values: Values) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._index = _native.KeyIndex()
        self._taken = 0
        self._rows = np.empty(capacity, np.int64)
        self._past = np.zeros(capacity, np.bool_)
        self._places = features.places
        self._features = [np.empty((capacity, len(each)), each.dtype) for each in features.matrices]
        self._shapes = {name: each.shape[1:] for name, each in values.items()}
        self._values = {
            name: np.empty((capacity, math.prod(each.shape[1:])), each.dtype) for name, each in values.items()
        }
        self._stored = {
            name: StoredRows("fp32", each) for name, each in self._values.items() if each.dtype == np.float32
        }

    def __len__(self) -> int:
        """Return how many items can be found."""
        return len(self._index)

    def find(self, keys: Keys) -> Positions:
        """Return each key's row, -1 where there is none."""
        with self._lock:
            places = self._index.find(keys)
        rows: Positions = np.where(places < 0, -1, self._rows[places])
        return rows

    def put(self, keys: Keys, features: PackedColumns, values: Values) -> bool:
        """Keep distinct items; False where there is no room for them."""
        with self._lock:
            start, stop = self._taken, self._taken + len(keys)
            if stop > self.capacity:
                return False
            self._taken = stop
        for held, matrix in zip(self._features, features.matrices, strict=True):
            held[start:stop] = matrix.T
        for name, value in values.items():
            self._values[name][start:stop] = value.reshape(len(keys), self._values[name].shape[1])
        with self._lock:
            unknown = np.flatnonzero((self._index.find(keys) < 0) & (keys != MISSING_KEY))
            self._rows[self._index.insert(keys[unknown])] = start + unknown
        return True

    def given_out(self, rows: Positions) -> dict[str, Tensor | Kept]:
        """Return values of rows: those in float32 where they stand, copies of the others."""
        return {name: self._given_out(name, rows) for name in self._values}

    def values_at(self, rows: Positions, others: Values, places: Positions) -> Values:
        """Return copies of the values of rows, with ``others`` at some places."""
        values = {name: held[rows].reshape(len(rows), *self._shapes[name]) for name, held in self._values.items()}
        for name, other in others.items():
            values[name][places] = other
        return values

    def features_at(self, rows: Positions) -> PackedColumns:
        """Return the features of rows."""
        return PackedColumns([np.ascontiguousarray(held[rows].T) for held in self._features], self._places)

    def identities(self, rows: Positions) -> Keys:
        """Return a hash of each row's integers, an item's rows of tables, which stay while its counts change."""
        whole = [held[rows].T for held in self._features if held.dtype.kind == "i"]
        return hash_rows([np.ascontiguousarray(each) for each in whole], len(rows))

    def pass_over(self, rows: Positions) -> None:
        """Let ``rows`` leave these out from now on; they can still be found."""
        self._past[rows] = True

    def rows(self) -> Positions:
        """Return the rows that can be found and are not passed over, in the order in which they came."""
        with self._lock:
            rows = self._rows[: len(self._index)].copy()
        return rows[~self._past[rows]]

    def _given_out(self, name: str, rows: Positions) -> Tensor | Kept:
        shape, stored = self._shapes[name], self._stored.get(name)
        if stored is not None:
            return Kept(stored, rows, tuple(shape))
        return torch.from_numpy(self._values[name][rows].reshape(len(rows), *shape))
