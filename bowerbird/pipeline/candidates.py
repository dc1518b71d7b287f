"""Candidates on their way through a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bowerbird.plan.block import Keys
from bowerbird.recall.popular import Ranked


@dataclass
class Candidates:
    """Recalled items in the order of recall: uint64 [n] ``keys``, and the channels that recalled each."""

    keys: Keys
    channels: list[list[str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def first(self, count: int) -> Candidates:
        """Return the first candidates."""
        return Candidates(self.keys[:count], self.channels[:count])

    def keep(self, mask: np.typing.NDArray[np.bool_]) -> Candidates:
        """Return the candidates where ``mask`` holds."""
        return Candidates(
            self.keys[mask], [names for names, kept in zip(self.channels, mask.tolist(), strict=True) if kept]
        )


def merge_channels(recalled: dict[str, Ranked]) -> Candidates:
    """Return the union of the channels' items, each channel's best first, in turns."""
    channels: dict[int, list[str]] = {}
    columns = {name: ranked.keys.tolist() for name, ranked in recalled.items()}
    for rank in range(max((len(keys) for keys in columns.values()), default=0)):
        for name, keys in columns.items():
            if rank < len(keys):
                channels.setdefault(keys[rank], []).append(name)
    return Candidates(np.fromiter(channels, np.uint64, len(channels)), list(channels.values()))
