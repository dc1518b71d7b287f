"""The items that can be recalled: original ids beside their 64-bit keys."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.block import Keys

Id = str | int


def item_key(identifier: Id) -> int:
    """Return the 64-bit key of an item's id."""
    return key_integer(identifier) if isinstance(identifier, int) else key_text(identifier)


class ItemCatalog:
    """Every item that the log has named; grows with events, and is read by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[int, int] = {}
        self._ids: list[Id] = []
        self._keys = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, identifiers: Iterable[Id]) -> list[Id]:
        """Add items that are not there yet, and return those."""
        fresh = []
        for identifier in identifiers:
            key = item_key(identifier)
            if key in self._positions:
                continue
            with self._lock:
                if key not in self._positions:
                    self._append(key, identifier)
                    fresh.append(identifier)
        return fresh

    def _append(self, key: int, identifier: Id) -> None:
        position = len(self._ids)
        if position == len(self._keys):
            grown = np.empty(max(1024, 2 * position), np.uint64)
            grown[:position] = self._keys
            self._keys = grown
        self._keys[position] = key
        self._ids.append(identifier)
        self._positions[key] = position

    def keys(self) -> Keys:
        """Return every item's key, uint64 [items], in the order of arrival."""
        with self._lock:
            return self._keys[: len(self._ids)]

    def ids(self) -> list[Id]:
        """Return every item's id, in the order of arrival."""
        with self._lock:
            return self._ids.copy()

    def id_of(self, key: int) -> Id | None:
        """Return an item's original id, or None when the key is unknown."""
        position = self._positions.get(key)
        return None if position is None else self._ids[position]

    def id_at(self, position: int) -> Id:
        """Return the id of the item at a position of ``keys()``."""
        return self._ids[position]
