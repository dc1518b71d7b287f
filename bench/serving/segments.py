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

_SIDE = 512
_PRODUCTS = 20
_SUM = "bowerbird_stage_seconds_sum"
_COUNT = "bowerbird_stage_seconds_count"


@dataclass(frozen=True)
class Segment:
    """What was measured, and a server's processor time per request and mean time per stage (ms) in the same time.

    ``memory`` is in MiB. ``machine`` is how long a calculation takes (ms of processor time) that is always the same.
    """

    measured: Measured
    processor: float
    stages: dict[str, float]
    memory: float
    machine: float

    def line(self) -> str:
        """Return the segment as a line of text."""
        stages = " ".join(f"{name} {value:.2f}" for name, value in self.stages.items())
        found = self.measured
        return (
            f"p50 {found.p50:.2f} p99 {found.p99:.1f} p99.9 {found.p999:.1f} ms; {self.processor:.2f} ms of a core; "
            f"{stages}; machine {self.machine:.1f} ms; {self.memory:.0f} MiB; {found.errors or ''}"
        )


class Watch:
    """Looks at a server before and after segments."""

    def __init__(self, port: int, pid: int) -> None:
        self._port, self._pid = port, pid

    def segment(self, run: Callable[[], Measured]) -> Segment:
        """Return what ``run`` measures with what the server did meanwhile."""
        with self._counted() as (times, sums):
            found = run()
        stages = {name: 1e3 * total / count for name, (total, count) in sums().items() if count}
        answers = max(1, found.requests - sum(found.errors.values()))
        memory = resident_bytes(self._pid) / 2**20
        return Segment(found, 1e3 * times() / answers, stages, memory, _calculation())

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
        ("processor time of a request", "ms", lambda each: each.processor),
        ("a calculation that stays the same", "ms", lambda each: each.machine),
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


def _calculation() -> float:
    """Return the processor time of some products and a loop, in milliseconds."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    began = time.thread_time()
    for _ in range(_PRODUCTS):
        matrix = matrix @ matrix * np.float32(1 / _SIDE)
    total = 0
    for number in range(500_000):
        total += number
    return 1e3 * (time.thread_time() - began)
