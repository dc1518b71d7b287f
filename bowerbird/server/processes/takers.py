"""Which of several workers a connection goes to."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field

from bowerbird.server.processes.handover import Load

_LEAST_CORES = 0.02
"""A new connection is expected to keep so many cores busy at least."""


@dataclass
class Worker:
    """A process as its supervisor knows it, and the supervisor's end of the pair with it."""

    number: int
    pid: int
    end: socket.socket
    started: float
    ready: bool = False
    load: Load = field(default_factory=Load)


def takers(workers: Collection[Worker], first: int | None = None) -> list[Worker]:
    """Return the workers that a connection is offered to, in turn.

    One that is not ready comes last, whatever was meant for it before it died: it would answer with 503. ``first``
    comes before the others that are ready; they come by what they have to do, then by their connections.
    """
    loads = [each.load for each in workers]
    usual = sum(load.cores for load in loads) / max(1, sum(load.open for load in loads))
    usual = max(usual, _LEAST_CORES)

    def order(worker: Worker) -> tuple[bool, bool, float, int]:
        load = worker.load
        return not worker.ready, worker.number != first, round(load.expected(usual), 1), load.connections

    return sorted(workers, key=order)
