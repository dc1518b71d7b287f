"""From 64-bit keys to the rows of one table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.plan.block import Keys
from bowerbird.plan.spec import MISSING_KEY

MISSING_ROW = 0
"""The row of an absent category."""
UNSEEN_ROW = 1
"""The row that all keys share that are not admitted: the native index says -1 of them."""
RESERVED_ROWS = 2


class KeyIndex:
    """The keys of one table, in the order of admission; key number i has row i + 2.

    """

    def __init__(self, keys: Keys | None = None) -> None:
        self._keys = np.zeros(0, np.uint64) if keys is None else np.array(keys, np.uint64)
        self._index = _native.KeyIndex()
        self._index.insert(self._keys)

    def __len__(self) -> int:
        """Return how many rows the table has, the reserved ones included."""
        return len(self._keys) + RESERVED_ROWS

    @property
    def keys(self) -> Keys:
        """The admitted keys, in row order."""
        return self._keys

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return each key's row: 0 for the missing key, 1 for one that is not admitted."""
        rows = self._index.find(np.ascontiguousarray(keys).reshape(-1)).reshape(keys.shape) + RESERVED_ROWS
        rows[keys == MISSING_KEY] = MISSING_ROW
        return rows

    def admit(self, keys: Keys, counts: npt.NDArray[np.int64], minimum: int) -> int:
        """Give a row to each new key that was counted at least ``minimum`` times; return how many.

        ``keys`` are distinct. More frequent keys come first, ties in key order, so that rows do not
        depend on the order of observation.
        """
        eligible = (counts >= minimum) & (self.find(keys) == UNSEEN_ROW)
        fresh, frequency = keys[eligible], counts[eligible]
        order = np.lexsort((fresh, -frequency))
        self._keys = np.concatenate([self._keys, fresh[order]])
        self._index.insert(np.ascontiguousarray(fresh[order]))
        return len(fresh)
