"""Sends requests when they are due and notes what became of each, in one thread without waiting for any answer.

Open loop: arrivals are fixed beforehand, and a latency counts from the time that a request was meant to be sent. So a
server that stalls for a second shows it in every request that was due meanwhile, and not in the one that it held
(what leaves the others out is Tene's coordinated omission). Closed loop: each connection asks again once answered.
"""

from __future__ import annotations

import gc
import select
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from bowerbird.loadtest.arrivals import Times
from bowerbird.loadtest.connection import TIMEOUT, Connection

_FIRST_ERROR = 400
_SOONEST = 0.02
"""How often, in seconds, requests are looked at that may have timed out."""


@dataclass(frozen=True)
class Samples:
    """What became of requests, in the order in which they ended; float64 [n] seconds from the start of the run.

    ``intended`` is when one was due, ``ready`` when a connection was free for it, ``sent`` when it went out: what lies
    between the last two is the generator's own. ``outcome`` int64 [n] is the answer's status, or what went wrong.
    ``seconds`` is how long the run took, ``busy`` how much of that the generator computed. ``said`` is what the first
    answer of each status from 400 on said.
    """

    intended: Times
    ready: Times
    sent: Times
    done: Times
    outcome: npt.NDArray[np.int64]
    seconds: float
    busy: float
    said: dict[int, str]


class Generator:
    """Asks one server over at most ``connections`` connections; nobody waits longer than ``timeout`` seconds."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], connections: int, timeout: float) -> None:
        self._requests = requests
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._connections = [Connection(address, self._selector) for _ in range(connections)]
        self._free = list(self._connections)
        self._flying: dict[Connection, tuple[float, float, float]] = {}
        self._ended: list[tuple[float, float, float, float, int]] = []
        self._said: dict[int, str] = {}
        self._next = 0
        self._origin = 0.0
        self._freed = 0.0

    def open_loop(self, arrivals: Times) -> Samples:
        """Send a request at each of the times (seconds from now, ascending) and wait for the last answer."""
        due = deque(arrivals.tolist())
        waiting: deque[float] = deque()

        def step() -> bool:
            now = self._now()
            while due and due[0] <= now:
                waiting.append(due.popleft())
            while waiting and waiting[0] < now - self._timeout:
                self._ended.append((waiting.popleft(), now, now, now, TIMEOUT))
            while waiting and self._free:
                intended = waiting.popleft()
                self._send(intended, max(intended, self._freed))
            self._wait(due[0] - self._now() if due else _SOONEST)
            return bool(due or waiting or self._flying)

        return self._run(step)

    def closed_loop(self, seconds: float) -> Samples:
        """Ask over every connection, each as soon as it was answered, for so long."""

        def step() -> bool:
            if self._now() < seconds:
                for _ in range(len(self._free)):
                    now = self._now()
                    self._send(now, now)
            self._wait(_SOONEST)
            return self._now() < seconds or bool(self._flying)

        return self._run(step)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()
        self._selector.close()

    def _run(self, step: Callable[[], bool]) -> Samples:
        """Take steps until the last one; the collector of garbage would stop them all for milliseconds."""
        self._ended.clear()
        self._said = {}
        gc.collect()
        gc.disable()
        began, self._origin, self._freed = time.thread_time(), time.perf_counter(), 0.0
        try:
            while step():
                pass
        finally:
            gc.enable()
        return _samples(self._ended, self._now(), time.thread_time() - began, self._said)

    def _now(self) -> float:
        return time.perf_counter() - self._origin

    def _send(self, intended: float, ready: float) -> None:
        connection = self._free.pop()
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        sent = self._now()
        self._flying[connection] = (intended, ready, sent)
        outcome = connection.send(request)
        if outcome:
            self._end(connection, outcome)

    def _wait(self, seconds: float) -> None:
        """Wait until something happens, then handle all that did; epoll alone would wait whole milliseconds."""
        if seconds > 0:
            select.select([self._selector], [], [], min(seconds, _SOONEST))
        for key, events in self._selector.select(0):
            connection: Connection = key.data
            outcome = connection.proceed(events)
            if connection in self._flying:
                if outcome:
                    self._end(connection, outcome)
            else:
                connection.close()
        self._drop_late()

    def _end(self, connection: Connection, outcome: int) -> None:
        self._freed = self._now()
        self._ended.append((*self._flying.pop(connection), self._freed, outcome))
        if outcome >= _FIRST_ERROR and outcome not in self._said:
            self._said[outcome] = connection.body()
        self._free.append(connection)

    def _drop_late(self) -> None:
        """Give up on requests that were due too long ago: the oldest are first."""
        oldest = self._now() - self._timeout
        late = list(takewhile(lambda each: each[1][0] < oldest, self._flying.items()))
        for connection, _ in late:
            connection.close()
            self._end(connection, TIMEOUT)


def _samples(
    ended: Sequence[tuple[float, float, float, float, int]], seconds: float, busy: float, said: dict[int, str]
) -> Samples:
    columns = np.array(ended, np.float64).reshape(-1, 5)
    intended, ready, sent, done, outcome = columns.T
    return Samples(intended, ready, sent, done, outcome.astype(np.int64), seconds, busy, said)
