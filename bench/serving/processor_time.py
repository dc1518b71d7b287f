"""How many cores the processes of a server keep busy while something is measured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE = 0.05
_TICK = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Samples of (monotonic seconds, processor seconds of some processes until then)."""

    def __init__(self, processes: list[int]) -> None:
        self._processes = processes
        self._samples: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def cores(self, seconds: float) -> float:
        """Return how many cores were busy on average in the last ``seconds``."""
        end, total = self._samples[-1]
        start, before = next(each for each in self._samples if each[0] >= end - seconds)
        return (total - before) / (end - start)

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Take samples while the block lasts."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE):
            self._samples.append((time.monotonic(), sum(map(seconds_of, self._processes))))


def seconds_of(pid: int) -> float:
    """Return the processor time of a process, 0 of one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK
