"""What each stage of one answer took."""

from __future__ import annotations

import time
from collections.abc import Mapping


class StageTimes:
    """Seconds by stage, in order; ``waited`` seconds in the queue come first."""

    def __init__(self, waited: float) -> None:
        self.seconds: dict[str, float] = {"queue": waited}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        """Give a stage the time since the one before ended."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now

    def add(self, stages: Mapping[str, float]) -> None:
        """Take over stages that measured themselves until now."""
        self.seconds.update(stages)
        self._last = time.perf_counter()

    def end_around(self, stage: str, inner: Mapping[str, float]) -> None:
        """Give a stage the time since the one before ended, less that of stages within it."""
        self.end(stage)
        self.seconds[stage] -= sum(inner.values())
        self.seconds.update(inner)

    def milliseconds(self) -> dict[str, float]:
        """Return the stages so far in milliseconds."""
        return {stage: round(seconds * 1e3, 3) for stage, seconds in self.seconds.items()}

    def header(self) -> bytes:
        """Return the stages so far as the value of a ``Server-Timing`` field (W3C), which browsers' tools show."""
        return ", ".join(f"{stage};dur={value}" for stage, value in self.milliseconds().items()).encode("ascii")
