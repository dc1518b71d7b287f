"""Which records the log already holds: their types and ids, in few bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.keys import key_text

_DIGEST_BYTES = 12


class KnownIds:
    """(type, id) pairs: imported ones as sorted 64-bit keys of the id by type, live ones as 96-bit digests.

    A new id is taken for an imported one with a probability of n / 2^64 for n imported records.
    """

    def __init__(self) -> None:
        self._imported: dict[str, npt.NDArray[np.uint64]] = {}
        self._live: set[bytes] = set()

    def add_imported(self, type_name: str, keys: npt.NDArray[np.uint64]) -> None:
        """Add a type's imported records by the ``key_text`` of their ids, uint64 [n]."""
        held = self._imported.get(type_name, np.empty(0, np.uint64))
        self._imported[type_name] = np.sort(np.concatenate([held, keys]))

    def add(self, records: Iterable[tuple[str, str]]) -> None:
        """Add live records as (type, id)."""
        self._live.update(_digest(type_name, identifier) for type_name, identifier in records)

    def holds(self, type_name: str, identifier: str) -> bool:
        """Return whether the log holds a record."""
        if _digest(type_name, identifier) in self._live:
            return True
        keys = self._imported.get(type_name)
        if keys is None or not len(keys):
            return False
        key = np.uint64(key_text(identifier))
        place = int(np.searchsorted(keys, key))
        return place < len(keys) and bool(keys[place] == key)


def _digest(type_name: str, identifier: str) -> bytes:
    return hashlib.blake2b(f"{type_name}\0{identifier}".encode(), digest_size=_DIGEST_BYTES).digest()
