"""Which event ids the log already holds, in few bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class KnownIds:
    """Ids of imported records as sorted 64-bit keys, of live ones as 128-bit digests.

    A new id is taken for an imported one with a probability of about n / 2^64.
    """

    def __init__(self, imported: npt.NDArray[np.uint64] | None = None) -> None:
        self._imported = np.empty(0, np.uint64) if imported is None else np.sort(imported)
        self._live: set[bytes] = set()
