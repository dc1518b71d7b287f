"""Feature columns as engines return them and models take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Sequences of several rows, end to end, oldest event first.

    Row r is ``[offsets[r]:offsets[r + 1]]`` of each field (uint64 keys or float32 numbers) and of ``age``
    (float32 seconds).
    """

    offsets: Offsets
    fields: dict[str, Keys | Numbers]
    age: Numbers

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class FeatureBlock:
    """The features of some rows, by name.

    ``categories`` are uint64 [rows], ``numbers`` float32 [rows], ``sequences`` ragged, ``vectors`` float32
    [rows, width] (NaN where unknown). In a block read for
    a request, features of stage *request* have one row and the others one per candidate; in samples every
    feature has one row per exposure. ``lsn`` is the number of log records that the values reflect (live).
    """

    categories: Mapping[str, Keys] = field(default_factory=dict)
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    sequences: dict[str, Ragged] = field(default_factory=dict)
    lsn: int = -1
    vectors: dict[str, Numbers] = field(default_factory=dict)
