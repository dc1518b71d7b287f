"""How long answers take: a line over their size, fitted to what was measured lately."""

from __future__ import annotations

import threading
from typing import NamedTuple

_FORGETTING = 0.98
"""An answer's weight in the fit after each later one: about fifty count."""
_OUTLIER = 4.0
"""An answer counts as no more than so many times what was expected: a stall is not taken for the rule at once."""


class _Line(NamedTuple):
    """Seconds over size, as of the last answer: asked many times for each."""

    mean_size: float
    mean_seconds: float
    slope: float


class ServiceTime:
    """Expects ``fixed + slope x size`` seconds for a request of a size, by least squares with exponential forgetting.

    Sizes are in any unit that grows with the work, bytes of the body for instance. From many threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weight = self._size = self._seconds = self._size_size = self._size_seconds = 0.0
        self._line = _Line(0.0, 0.0, 0.0)

    def observe(self, size: float, seconds: float) -> None:
        """Take an answer's time into account."""
        expected = self.expect(size)
        if expected > 0.0:
            seconds = min(seconds, _OUTLIER * expected)
        with self._lock:
            self._weight = _FORGETTING * self._weight + 1.0
            self._size = _FORGETTING * self._size + size
            self._seconds = _FORGETTING * self._seconds + seconds
            self._size_size = _FORGETTING * self._size_size + size * size
            self._size_seconds = _FORGETTING * self._size_seconds + size * seconds
            self._line = self._fit()

    def usual(self) -> float:
        """Return the mean seconds lately; 0 before anything was measured."""
        return self._line.mean_seconds

    def expect(self, size: float) -> float:
        """Return the expected seconds; 0 before anything was measured."""
        line = self._line
        return max(0.1 * line.mean_seconds, line.mean_seconds + line.slope * (size - line.mean_size))

    def _fit(self) -> _Line:
        mean_size, mean_seconds = self._size / self._weight, self._seconds / self._weight
        spread = self._size_size / self._weight - mean_size * mean_size
        common = self._size_seconds / self._weight - mean_size * mean_seconds
        slope = max(0.0, common / spread) if spread > 1e-4 * mean_size * mean_size else 0.0
        return _Line(mean_size, mean_seconds, slope)
