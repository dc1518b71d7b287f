"""Segments of a long load: latencies beside what tells a slower server from a slower machine."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench.common import Row
from bench.serving.processor_time import seconds_of
from bench.serving.served import resident_bytes, server_pids
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.run import LoadTest
from bowerbird.loadtest.table import refusals_of

_SIDE = 512
_PRODUCTS = 20
_NUMBERS = 1 << 25
_READS = 1 << 20
_SUM = "bowerbird_stage_seconds_sum"
_COUNT = "bowerbird_stage_seconds_count"


@dataclass(frozen=True)
class Segment:
    """What was measured, and a server's processor time per request and mean time per stage (ms) in the same time.

    ``capacity`` is what a closed loop had answered a second just before, ``memory`` is in MiB. ``machine`` is how long
    work takes (ms of processor time) that is always the same: in the caches, and in memory.
    """

    measured: Measured
    capacity: float
    processor: float
    stages: dict[str, float]
    memory: float
    machine: tuple[float, float]

    def line(self) -> str:
        """Return the segment as a line of text."""
        stages = " ".join(f"{name} {value:.2f}" for name, value in self.stages.items())
        found, (computed, read) = self.measured, self.machine
        return (
            f"of {self.capacity:.0f}/s: p50 {found.p50:.2f} p99 {found.p99:.1f} p99.9 {found.p999:.1f} ms; "
            f"{self.processor:.2f} ms of a core; {stages}; machine {computed:.1f} and {read:.1f} ms; "
            f"{self.memory:.0f} MiB; {found.errors or ''} {'; '.join(refusals_of([found]))}"
        )


class Watch:
    """Looks at a server before and after segments."""

    def __init__(self, port: int, pid: int) -> None:
        self._port, self._pid = port, pid
        self._machine = _Machine()

    def segment(self, load: LoadTest, capacity: float) -> Segment:
        """Return what a load test of one rate measures, with what the server did meanwhile."""
        with self._counted() as (times, sums):
            (found,) = load.run()
        stages = {name: 1e3 * total / count for name, (total, count) in sums().items() if count}
        answers = max(1, found.requests - sum(found.errors.values()))
        memory = resident_bytes(self._pid) / 2**20
        return Segment(found, capacity, 1e3 * times() / answers, stages, memory, self._machine.measured())

    @contextmanager
    def _counted(self) -> Iterator[tuple[Callable[[], float], Callable[[], dict[str, tuple[float, float]]]]]:
        """Give what says, after the block, how much processor time passed and what stages took."""
        before, stages = self._processor(), self._stages()
        yield (
            lambda: sum(_grown(after, before.get(pid, 0.0)) for pid, after in self._processor().items()),
            lambda: self._grown_stages(stages),
        )

    def _processor(self) -> dict[int, float]:
        return {pid: seconds_of(pid) for pid in server_pids(self._pid)}

    def _grown_stages(self, before: Mapping[tuple[str, str, str], float]) -> dict[str, tuple[float, float]]:
        grown: defaultdict[tuple[str, str], float] = defaultdict(float)
        for (worker, stage, kind), after in self._stages().items():
            grown[stage, kind] += _grown(after, before.get((worker, stage, kind), 0.0))
        names = sorted({stage for stage, _ in grown})
        return {name: (grown[name, _SUM], grown[name, _COUNT]) for name in names}

    def _stages(self) -> dict[tuple[str, str, str], float]:
        """Return sums and counts of seconds by (worker, stage, which of both)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            name, _, rest = line.partition("{")
            if name in (_SUM, _COUNT):
                labels, _, value = rest.rpartition("} ")
                named = dict(each.split("=", 1) for each in labels.split(","))
                found[named["worker"], named["stage"].strip('"'), name] = float(value)
        return found


def third_rows(segments: Sequence[Segment]) -> list[Row]:
    """Return rows of the first third beside the last."""
    figures: list[tuple[str, str, Callable[[Segment], float]]] = [
        ("p50", "ms", lambda each: each.measured.p50),
        ("p99", "ms", lambda each: each.measured.p99),
        ("p999", "ms", lambda each: each.measured.p999),
        ("closed loop before a segment", "requests/s", lambda each: each.capacity),
        ("processor time of a request", "ms", lambda each: each.processor),
        ("work that stays the same, in the caches", "ms", lambda each: each.machine[0]),
        ("work that stays the same, in memory", "ms", lambda each: each.machine[1]),
        ("memory of all processes", "MiB", lambda each: each.memory),
    ]
    third = max(1, len(segments) // 3)
    rows = []
    for name, unit, of in figures:
        first, last = (median(map(of, part)) for part in (segments[:third], segments[-third:]))
        rows.append(Row(f"{name}: last third (peer: first third)", last, unit, first, last / first))
    return rows


def _grown(after: float, before: float) -> float:
    """Return by how much a counter grew; it is 0 when its process begins anew."""
    return after - before if after >= before else after


class _Machine:
    """Work that is always the same."""

    def __init__(self) -> None:
        self._matrix = np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32)
        self._memory = np.arange(_NUMBERS)
        self._places = np.random.default_rng(0).integers(0, _NUMBERS, _READS)

    def measured(self) -> tuple[float, float]:
        """Return the processor time of products and a loop, and of reads here and there, in milliseconds."""
        return _timed(self._compute), _timed(lambda: self._memory[self._places])

    def _compute(self) -> None:
        for _ in range(_PRODUCTS):
            self._matrix @ self._matrix
        total = 0
        for number in range(500_000):
            total += number


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return 1e3 * (time.thread_time() - began)
