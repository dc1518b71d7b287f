"""Recall by popularity: the items with most events in a trailing window, from live counters."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from bowerbird.plan.block import Keys
from bowerbird.recall.items import ItemCatalog
from bowerbird.recall.reader import RecallReader

_REFRESH_SECONDS = 1.0
_CHUNK = 10_000
"""Items counted at a time, so that a large catalogue does not hold up the writer."""


@dataclass(frozen=True)
class Ranked:
    """Items with a score each, best first: uint64 [n], float32 [n]."""

    keys: Keys
    scores: np.typing.NDArray[np.float32]


class PopularItems:
    """Keeps the ``count`` most counted items of one feature; counted again at most once a second."""

    def __init__(self, reader: RecallReader, items: ItemCatalog, feature: str, count: int) -> None:
        self._reader = reader
        self._items = items
        self._feature = feature
        self._count = count
        self._lock = threading.Lock()
        self._counted = -_REFRESH_SECONDS
        self._ranked = Ranked(np.empty(0, np.uint64), np.empty(0, np.float32))

    def items(self, time_us: int) -> Ranked:
        """Return the most popular items as of a time that is not older than a second."""
        if time.monotonic() - self._counted < _REFRESH_SECONDS:
            return self._ranked
        if not self._lock.acquire(blocking=len(self._ranked.keys) == 0):
            return self._ranked
        try:
            self._ranked = self._rank(time_us)
            self._counted = time.monotonic()
        finally:
            self._lock.release()
        return self._ranked

    def _rank(self, time_us: int) -> Ranked:
        keys = self._items.keys()
        if not len(keys):
            return Ranked(keys, np.empty(0, np.float32))
        parts = [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]
        counts = np.concatenate([self._reader.read(time_us, None, part).numbers[self._feature] for part in parts])
        order = np.lexsort((keys, -counts))[: self._count]
        order = order[counts[order] > 0]
        return Ranked(keys[order], counts[order])
