"""Ranking by popularity alone: what a scene answers when there is no time for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.recall.items import Id


@dataclass(frozen=True)
class Popular:
    """Candidates and how often each was counted in the channel's window, float32 [candidates], as of (LSN, time).

    ``shown`` are the positions of a recommendation's items, best first, and ``channels`` what recalled each.
    """

    candidates: Sequence[Id]
    counts: npt.NDArray[np.float32]
    lsn: int
    time: int
    shown: Sequence[int] = ()
    channels: Sequence[list[str]] = ()
