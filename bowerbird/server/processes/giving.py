"""Which of its connections a worker gives away, so that another one has as much to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from bowerbird.server.web.protocol import BoundedProtocol, Give

_ROUNDING = 1.001


class Giving:
    """Counts, from look to look, what connections ask, and gives away those that make up some work.

    What a connection asks is taken for its share of the work. One that asks less than half of what is usual may do so
    because its requests are large, and stays.
    """

    def __init__(self, connections: Callable[[], Collection[BoundedProtocol]], give: Give) -> None:
        self._connections = connections
        self._give = give
        self._chosen: list[BoundedProtocol] = []
        self._asked: dict[BoundedProtocol, int] = {}
        self._recent: dict[BoundedProtocol, int] = {}
        self._cores = 0.0
        self._since = time.monotonic(), time.process_time()

    def look(self) -> float:
        """Return how many cores were busy since the last look; what was to go and did not may stay."""
        for connection in self._chosen:
            connection.give_away(None)
        self._chosen = []
        asked = {connection: connection.asked for connection in self._connections()}
        self._recent = {each: count - self._asked.get(each, 0) for each, count in asked.items()}
        self._asked = asked
        now = time.monotonic(), time.process_time()
        self._cores = (now[1] - self._since[1]) / max(now[0] - self._since[0], 1e-9)
        self._since = now
        return self._cores

    def give(self, cores: float) -> None:
        """Give away connections that kept about so many cores busy between the last two looks, and no more."""
        for connection in chosen(self._recent, cores / self._cores if self._cores else 0.0):
            self._chosen.append(connection)
            connection.give_away(self._give)


def chosen(asked: dict[BoundedProtocol, int], share: float) -> list[BoundedProtocol]:
    """Return connections that asked a share of what all did, or less; those that asked most come first."""
    active = {each: count for each, count in asked.items() if count > 0}
    total = sum(active.values())
    remaining = share * total * _ROUNDING
    found = []
    for connection, count in sorted(active.items(), key=lambda each: -each[1]):
        if count <= remaining and 2 * count * len(active) >= total:
            found.append(connection)
            remaining -= count
    return found
