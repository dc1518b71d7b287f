"""A load test: several runs one after another, each in one or several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bowerbird.loadtest.arrivals import Times, poisson, recorded
from bowerbird.loadtest.generator import Generator, Samples
from bowerbird.loadtest.measured import Measured, measured
from bowerbird.loadtest.requests import Request, Target, recorded_times

Arrivals = Literal["poisson", "recorded"]


@dataclass(frozen=True)
class LoadTest:
    """What is asked of whom, and how.

    Each of ``rates`` (requests a second) is an open loop over at most ``connections``, each of ``closed`` (connections)
    a closed one; all last ``warm_up`` + ``seconds``, of which the former are not counted. ``deadline`` and ``timeout``
    are seconds: an answer after the deadline is no goodput, one after the timeout is not waited for. With several
    ``processes`` each sends its share.
    """

    target: Target
    requests: Sequence[Request]
    rates: Sequence[float] = ()
    closed: Sequence[int] = ()
    arrivals: Arrivals = "poisson"
    seconds: float = 10.0
    warm_up: float = 2.0
    connections: int = 256
    deadline: float = 0.1
    timeout: float = 10.0
    processes: int = 1
    seed: int = 0

    def run(self, on_start: Callable[[str], None] = lambda what: None) -> list[Measured]:
        """Return what each run showed; ``on_start`` is told which one begins."""
        runs = [_Run(self, "closed", 0.0, connections) for connections in self.closed]
        runs += [_Run(self, "open", rate, self.connections) for rate in self.rates]
        found = []
        for run in runs:
            on_start(run.name)
            found.append(run.measured())
        return found


@dataclass(frozen=True)
class _Run:
    test: LoadTest
    loop: Literal["open", "closed"]
    rate: float
    connections: int
    share: int = 0

    @property
    def name(self) -> str:
        if self.loop == "open":
            return f"open loop, {self.rate:g} requests/s"
        return f"closed loop, {self.connections} connections"

    def measured(self) -> Measured:
        test = self.test
        count = min(test.processes, self.connections)
        if count == 1:
            samples = [self.samples()]
        else:
            shares = [replace(self, share=number) for number in range(count)]
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                samples = pool.map(_samples_of, shares, chunksize=1)
        window = (test.warm_up, test.warm_up + test.seconds)
        return measured(samples, self.loop, self.rate, self.connections, window, test.deadline)

    def samples(self) -> Samples:
        """Return what this share of the run saw."""
        test = self.test
        count = min(test.processes, self.connections)
        encoded = [test.target.encode(each) for each in test.requests]
        begin = len(encoded) * self.share // count
        own = len(range(self.share, self.connections, count))
        address = (test.target.host, test.target.port)
        generator = Generator(address, encoded[begin:] + encoded[:begin], own, test.timeout)
        try:
            if self.loop == "closed":
                return generator.closed_loop(test.warm_up + test.seconds)
            return generator.open_loop(self._arrivals(self.rate / count))
        finally:
            generator.close()

    def _arrivals(self, rate: float) -> Times:
        test = self.test
        seconds = test.warm_up + test.seconds
        if test.arrivals == "poisson":
            return poisson(rate, seconds, test.seed + self.share)
        return recorded(recorded_times(test.requests), rate, seconds)


def _samples_of(run: _Run) -> Samples:
    return run.samples()
