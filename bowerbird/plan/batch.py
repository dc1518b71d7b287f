"""Log records as engines take them: one column per slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Types = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint64]
Vectors = Mapping[int, tuple[Times, npt.NDArray[np.float32]]]
"""By slot: the rows that have a vector, int64 [m] ascending, and the vectors, float32 [m, width]."""
RETRACTION = 1 << 30
"""Added to a record's type index: the record takes back an earlier one of the same time and values."""


@dataclass(frozen=True)
class RecordBatch:
    """Records in LSN order: ``types`` int32 [n] (-1: not in the plan; plus ``RETRACTION``), ``times`` int64 [n]
    microseconds, ``slots`` uint64 [slots, n]: 64-bit keys, or the bits of float64 numbers.
    """

    types: Types
    times: Times
    slots: Slots
    vectors: Vectors = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.types)


@dataclass(frozen=True)
class ReadBatch:
    """Point-in-time reads: read r sees the records before ``positions[r]`` (ascending, counted from the
    engine's first record), at ``times[r]``, for the request and candidate in ``slots`` uint64 [slots, r].
    """

    positions: Times
    times: Times
    slots: Slots

    def __len__(self) -> int:
        return len(self.positions)
