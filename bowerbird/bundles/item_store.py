"""What the item stage left of the items that were seen: kept as long as an item's features stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird import _native

Keys = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Odd numbers whose products mix bits well (Steele, Lea and Flood, 2014)."""
_HALF = np.uint64(32)


class ItemStore:
    """Values by the 64-bit hash of the features that they were made of; a change of a feature is another key.

    So nothing has to be told that an item changed. ``limit`` are the most bytes; a store that is full begins anew.
    Threads may share it. Two of n keys collide with probability n²/2⁶⁵.
    """

    def __init__(self, limit: int = 256 << 20) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._index = _native.KeyIndex()
        self._count = 0
        self._values: dict[str, Tensor] = {}
        self.hits = 0
        self.misses = 0

    def get(self, keys: Keys, make: Callable[[Positions], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return values [len(keys), *shape] by name; ``make`` gives those of the positions that are not there yet."""
        with self._lock:
            places = self._index.find(keys)
        unknown = np.flatnonzero(places < 0)
        fresh, first = np.unique(keys[unknown], return_index=True)
        made = make(unknown[first]) if len(fresh) else {}
        with self._lock:
            self.hits += len(keys) - len(unknown)
            self.misses += len(unknown)
            if len(fresh):
                self._insert(fresh, made)
            places = self._index.find(keys)
            if not (places < 0).any():
                chosen = torch.from_numpy(places)
                return {name: value.index_select(0, chosen) for name, value in self._values.items()}
        return make(np.arange(len(keys)))  # they do not fit, or were lost meanwhile

    def _insert(self, fresh: Keys, made: dict[str, Tensor]) -> None:
        unknown = self._index.find(fresh) < 0
        chosen = torch.from_numpy(unknown)
        if self._count + len(fresh) > self._capacity(made):
            self._index, self._count = _native.KeyIndex(), 0
            return
        self._index.insert(fresh[unknown])
        for name, value in made.items():
            self._values[name] = _grown(self._values.get(name), value, self._count + int(unknown.sum()))
            self._values[name][self._count : self._count + int(unknown.sum())] = value[chosen]
        self._count += int(unknown.sum())

    def _capacity(self, made: dict[str, Tensor]) -> int:
        size = sum(value[0].numel() * value.element_size() for value in made.values())
        return self._limit // max(size, 1)


def _grown(held: Tensor | None, like: Tensor, count: int) -> Tensor:
    """Return memory for ``count`` rows at least, which begins with what is held."""
    if held is not None and len(held) >= count:
        return held
    grown = torch.empty(max(count, 2 * len(held) if held is not None else 1024), *like.shape[1:], dtype=like.dtype)
    if held is not None:
        grown[: len(held)] = held
    return grown


def hash_rows(columns: Sequence[npt.NDArray[np.generic]], rows: int) -> Keys:
    """Return a 64-bit hash of each row of some columns, [rows] or [rows, ...]; the order of columns matters.

    Rows that differ in one element alone never collide: an element's part of the sum is a one to one function of it,
    another one at each place.
    """
    by_type: dict[np.dtype[np.generic], list[npt.NDArray[np.generic]]] = {}
    for column in columns:
        by_type.setdefault(column.dtype, []).append(column.reshape(rows, -1))
    elements = [np.concatenate(each, axis=1) for each in by_type.values()]
    bits = np.concatenate([each.view(f"u{each.itemsize}").astype(np.uint64) for each in elements], axis=1)
    bits += np.arange(1, bits.shape[1] + 1, dtype=np.uint64) * _PRIME
    for factor in _FACTORS:
        bits ^= bits >> _HALF
        bits *= factor
    bits ^= bits >> _HALF
    total: Keys = bits.sum(axis=1, dtype=np.uint64)
    return total
