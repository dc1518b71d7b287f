"""What the item stage left of the items that were seen: kept as long as an item's features stay as they are."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird import _native
from bowerbird.compiler.backends.contract import Kept
from bowerbird.kernels.pair_rows import StoredRows
from bowerbird.kernels.row_hash import hash_rows

Keys = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Columns: TypeAlias = Sequence[npt.NDArray[Any]]
"""Features of items, [items] or [items, ...] each."""
MakeItems: TypeAlias = Callable[[Columns], Mapping[str, Tensor]]
_FIRST_ROWS = 1024
_SEARCHED = 4096
"""Items that are looked through at a time for changes."""
_TOGETHER = 64
"""Items that are made at a time in the background: no thread that answers waits long for the interpreter."""


class ItemStore:
    """Values by the 64-bit hash of the features that they were made of; a change of a feature is another key.

    So nothing has to be told that an item changed. ``limit`` are the most bytes; a store that is full begins anew with
    what is asked for. float32 values are not copied when they are asked for. Threads may share it. Two of n keys
    collide with probability n²/2⁶⁵.
    """

    def __init__(self, limit: int = 256 << 20) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._index = _native.KeyIndex()
        self._count = 0
        self._columns: dict[str, _Rows | _Tensors] = {}
        self._features: list[_Tensors] = []
        self._item_bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, features: Columns, count: int, make: MakeItems) -> dict[str, Tensor | Kept]:
        """Return values [count, *shape] by name of items with features [count, ...], which make them up.

        ``make`` gives the values of those items that are not there yet, given their features.
        """
        keys = hash_columns(features, count)
        if count * self._item_bytes > self._limit:
            return dict(make(features))
        with self._lock:
            places = self._index.find(keys)
            unknown = np.flatnonzero(places < 0)
            if not len(unknown):
                self.hits += count
                return self._taken(places)
        fresh, first = np.unique(keys[unknown], return_index=True)
        chosen = [column[unknown[first]] for column in features]
        made = make(chosen)
        with self._lock:
            self.hits += count - len(unknown)
            self.misses += len(unknown)
            self._insert(fresh, chosen, made, keys)
            places = self._index.find(keys)
            if not (places < 0).any():
                return self._taken(places)
        return dict(make(features))  # they do not fit, or were lost meanwhile

    def make_changed(self, change: Callable[[Columns], tuple[Positions, Columns]], make: MakeItems) -> int:
        """Make what items become whose features change, a few at a time, while there is room; return how many.

        ``change`` returns which of some items change, and what their features become.
        """
        done, end = 0, self._count
        for start in range(0, end, _SEARCHED):
            with self._lock:
                stop = min(start + _SEARCHED, end, self._count)
                held = [column.rows(start, stop) for column in self._features]
            if stop <= start:  # a request began the store anew
                break
            changing, features = change(held)
            for first in range(0, len(changing), _TOGETHER):
                made = self._make_unknown([column[first : first + _TOGETHER] for column in features], make)
                if made < 0:
                    return done
                done += made
        return done

    def _make_unknown(self, features: Columns, make: MakeItems) -> int:
        """Make those of some items that are not there, and return how many; -1 where there is no room for them."""
        keys = hash_columns(features, len(features[0]))
        with self._lock:
            unknown = np.flatnonzero(self._index.find(keys) < 0)
        fresh, first = np.unique(keys[unknown], return_index=True)
        if not len(fresh):
            return 0
        chosen = [column[unknown[first]] for column in features]
        made = make(chosen)
        with self._lock:
            if (self._count + len(fresh)) * self._item_bytes > self._limit:
                return -1
            self._insert(fresh, chosen, made, fresh)
        return len(fresh)

    def _taken(self, places: Positions) -> dict[str, Tensor | Kept]:
        return {name: column.taken(places) for name, column in self._columns.items()}

    def _insert(self, fresh: Keys, features: Columns, made: Mapping[str, Tensor], asked: Keys) -> None:
        """Put in what was made of new keys; where that is too much, all goes but what is ``asked`` for."""
        unknown = self._index.find(fresh) < 0
        if not unknown.any():  # another thread made them meanwhile
            return
        self._item_bytes = _row_bytes(features) + _row_bytes([value.numpy() for value in made.values()])
        if (self._count + len(fresh)) * self._item_bytes > self._limit:
            self._keep_only(asked)
        count = self._count + int(unknown.sum())
        if count * self._item_bytes > self._limit:
            return
        self._index.insert(fresh[unknown])
        chosen = torch.from_numpy(unknown)
        for name, value in made.items():
            if name not in self._columns:
                is_row = value.dtype == torch.float32
                self._columns[name] = _Rows(value.shape[1:]) if is_row else _Tensors(value.numpy())
            self._columns[name].put(self._count, count, value[chosen])
        self._features = self._features or [_Tensors(column) for column in features]
        for held, column in zip(self._features, features, strict=True):
            held.put(self._count, count, torch.from_numpy(column[unknown]))
        self._count = count

    def _keep_only(self, keys: Keys) -> None:
        """Begin anew with what is there of some keys."""
        places = self._index.find(keys)
        kept, first = np.unique(keys[places >= 0], return_index=True)
        places = places[places >= 0][first]
        self._index, self._count = _native.KeyIndex(), len(kept)
        self._index.insert(kept)
        self._columns = {name: column.only(places) for name, column in self._columns.items()}
        self._features = [column.only(places) for column in self._features]


def _row_bytes(columns: Columns) -> int:
    return sum(column[:1].nbytes for column in columns)


class _Rows:
    """One float32 value of all items. Rows that were given out are never written again."""

    def __init__(self, shape: torch.Size) -> None:
        self._shape = tuple(shape)
        self._stored = StoredRows("fp32", np.empty((0, math.prod(shape)), np.float32))

    def put(self, start: int, stop: int, value: Tensor) -> None:
        """Put rows ``start`` to ``stop``."""
        values = _grown(self._stored.values, stop)
        values[start:stop] = value.reshape(len(value), -1).numpy()
        if values is not self._stored.values:
            self._stored = StoredRows("fp32", values)

    def taken(self, places: Positions) -> Kept:
        """Return rows where they stand."""
        return Kept(self._stored, places, self._shape)

    def only(self, places: Positions) -> _Rows:
        """Return some rows in memory of their own."""
        other = copy.copy(self)
        other._stored = StoredRows("fp32", self._stored.values[places])
        return other


class _Tensors:
    """One value of all items that is no float32."""

    def __init__(self, like: npt.NDArray[Any], held: npt.NDArray[Any] | None = None) -> None:
        self._held = like[:0] if held is None else held

    def put(self, start: int, stop: int, value: Tensor) -> None:
        """Put rows ``start`` to ``stop``."""
        self._held = _grown(self._held, stop)
        self._held[start:stop] = value.numpy()

    def taken(self, places: Positions) -> Tensor:
        """Return a copy of rows."""
        return torch.from_numpy(self._held[places])

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows ``start`` to ``stop``, which nobody writes again."""
        return self._held[start:stop]

    def only(self, places: Positions) -> _Tensors:
        """Return some rows in memory of their own."""
        return _Tensors(self._held, self._held[places])


def _grown(held: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return memory for ``count`` rows at least, which begins with what is held."""
    if len(held) >= count:
        return held
    grown = np.zeros((max(count, 2 * len(held), _FIRST_ROWS), *held.shape[1:]), held.dtype)
    grown[: len(held)] = held
    return grown


def hash_columns(columns: Sequence[npt.NDArray[Any]], rows: int) -> Keys:
    """Return a 64-bit hash of each row of some columns, [rows] or [rows, ...]; the order of columns matters."""
    by_type: dict[int, list[npt.NDArray[Any]]] = {}
    for column in columns:
        flat = column if column.ndim == 1 else column.reshape(rows, -1).T.reshape(-1)
        by_type.setdefault(column.dtype.num, []).append(flat)
    return hash_rows([np.concatenate(each).reshape(-1, rows) for each in by_type.values()], rows)
