"""Which worker has more to do than another, and how much of it is to move."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_LEAST_CORES = 0.1
_LEAST_SHARE = 0.2
"""Smaller differences, in cores and as a share of what the busiest does, are left alone."""


@dataclass(frozen=True)
class Move:
    """So many cores' work goes from a worker to another."""

    source: int
    target: int
    cores: float


class Balance:
    """Compares how many cores workers keep busy, word by word.

    Numbers of connections say little: clients use theirs unevenly, requests differ, and a worker that was started
    again has none, while clients keep those that they have. After a move each worker's next word is passed over, for
    it is mostly of the time before.
    """

    def __init__(self) -> None:
        self._cores: dict[int, float] = {}
        self._passed_over: set[int] = set()

    def note(self, worker: int, cores: float) -> None:
        """Take a worker's word."""
        if worker in self._passed_over:
            self._passed_over.remove(worker)
        else:
            self._cores[worker] = cores

    def move(self, workers: Collection[int]) -> Move | None:
        """Return what makes the busiest and the idlest of some workers alike, once each has given its word.

        None where they are nearly alike.
        """
        cores = {worker: self._cores[worker] for worker in workers if worker in self._cores}
        if len(cores) < max(2, len(workers)):
            return None
        self._cores.clear()
        source, target = max(cores, key=cores.__getitem__), min(cores, key=cores.__getitem__)
        difference = cores[source] - cores[target]
        if difference < max(_LEAST_CORES, _LEAST_SHARE * cores[source]):
            return None
        self._passed_over = set(workers)
        return Move(source, target, difference / 2)
