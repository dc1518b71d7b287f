"""What the item stage left of the items that were seen: kept as long as an item's features stay as they are."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird import _native
from bowerbird.compiler.backends.contract import Kept
from bowerbird.kernels.pair_rows import RowFormat, StoredRows
from bowerbird.kernels.row_hash import hash_rows

Keys = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
_FIRST_ROWS = 1024


class ItemStore:
    """Values by the 64-bit hash of the features that they were made of; a change of a feature is another key.

    So nothing has to be told that an item changed. ``limit`` are the most bytes; a store that is full begins anew.
    float32 values are kept in the ``format`` and are not copied when they are asked for. Threads may share it. Two of
    n keys collide with probability n²/2⁶⁵.
    """

    def __init__(self, limit: int = 256 << 20, format: RowFormat = "fp32") -> None:
        self._limit = limit
        self._format: RowFormat = format
        self._lock = threading.Lock()
        self._index = _native.KeyIndex()
        self._count = 0
        self._columns: dict[str, _Rows | _Tensors] = {}
        self.hits = 0
        self.misses = 0

    def get(self, keys: Keys, make: Callable[[Positions], Mapping[str, Tensor]]) -> dict[str, Tensor | Kept]:
        """Return values [len(keys), *shape] by name; ``make`` gives those of the positions that are not there yet."""
        with self._lock:
            places = self._index.find(keys)
            unknown = np.flatnonzero(places < 0)
            if not len(unknown):
                self.hits += len(keys)
                return self._taken(places)
        fresh, first = np.unique(keys[unknown], return_index=True)
        made = make(unknown[first])
        with self._lock:
            self.hits += len(keys) - len(unknown)
            self.misses += len(unknown)
            self._insert(fresh, made)
            places = self._index.find(keys)
            if not (places < 0).any():
                return self._taken(places)
        return dict(make(np.arange(len(keys))))  # they do not fit, or were lost meanwhile

    def _taken(self, places: Positions) -> dict[str, Tensor | Kept]:
        return {name: column.taken(places) for name, column in self._columns.items()}

    def _insert(self, fresh: Keys, made: Mapping[str, Tensor]) -> None:
        unknown = self._index.find(fresh) < 0
        if not unknown.any():  # another thread made them meanwhile
            return
        count = self._count + int(unknown.sum())
        if self._count + len(fresh) > self._capacity(made):
            self._index, self._count, self._columns = _native.KeyIndex(), 0, {}
            return
        self._index.insert(fresh[unknown])
        chosen = torch.from_numpy(unknown)
        for name, value in made.items():
            if name not in self._columns:
                is_row = value.dtype == torch.float32
                self._columns[name] = _Rows(value.shape[1:], self._format) if is_row else _Tensors(value)
            self._columns[name].put(self._count, count, value[chosen])
        self._count = count

    def _capacity(self, made: Mapping[str, Tensor]) -> int:
        size = sum(value[0].numel() * value.element_size() for value in made.values())
        return self._limit // max(size, 1)


class _Rows:
    """One float32 value of all items, packed. Rows that were given out are never written again."""

    def __init__(self, shape: torch.Size, format: RowFormat) -> None:
        self._shape = tuple(shape)
        self._format: RowFormat = format
        self._stored = StoredRows.pack(np.empty((0, math.prod(shape)), np.float32), format)

    def put(self, start: int, stop: int, value: Tensor) -> None:
        """Put rows ``start`` to ``stop``."""
        packed = StoredRows.pack(value.reshape(len(value), -1).numpy(), self._format)
        values = _grown(self._stored.values, stop)
        values[start:stop] = packed.values
        scales = None
        if packed.scales is not None and self._stored.scales is not None:
            scales = _grown(self._stored.scales, stop)
            scales[start:stop] = packed.scales
        if values is not self._stored.values:
            self._stored = StoredRows(self._format, values, scales)

    def taken(self, places: Positions) -> Kept:
        """Return rows where they stand."""
        return Kept(self._stored, places, self._shape)


class _Tensors:
    """One value of all items that is no float32."""

    def __init__(self, like: Tensor) -> None:
        self._held = like[:0].numpy()

    def put(self, start: int, stop: int, value: Tensor) -> None:
        """Put rows ``start`` to ``stop``."""
        self._held = _grown(self._held, stop)
        self._held[start:stop] = value.numpy()

    def taken(self, places: Positions) -> Tensor:
        """Return a copy of rows."""
        return torch.from_numpy(self._held[places])


def _grown(held: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return memory for ``count`` rows at least, which begins with what is held."""
    if len(held) >= count:
        return held
    grown = np.zeros((max(count, 2 * len(held), _FIRST_ROWS), *held.shape[1:]), held.dtype)
    grown[: len(held)] = held
    return grown


def hash_columns(columns: Sequence[npt.NDArray[Any]], rows: int) -> Keys:
    """Return a 64-bit hash of each row of some columns, [rows] or [rows, ...]; the order of columns matters."""
    by_type: dict[np.dtype[Any], list[npt.NDArray[Any]]] = {}
    for column in columns:
        flat = column if column.ndim == 1 else column.reshape(rows, -1).T.reshape(-1)
        by_type.setdefault(column.dtype, []).append(flat)
    return hash_rows([np.concatenate(each).reshape(-1, rows) for each in by_type.values()], rows)
