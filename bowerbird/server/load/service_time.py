"""How long answers take: a line over their size, fitted to what was measured lately."""

from __future__ import annotations

import threading

_FORGETTING = 0.98
"""An answer's weight in the fit after each later one: about fifty count."""
_OUTLIER = 4.0
"""An answer counts as no more than so many times what was expected: a stall is not taken for the rule at once."""


class ServiceTime:
    """Expects ``fixed + slope x size`` seconds for a request of a size, by least squares with exponential forgetting.

    Sizes are in any unit that grows with the work, bytes of the body for instance. From many threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weight = self._size = self._seconds = self._size_size = self._size_seconds = 0.0

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

    def usual(self) -> float:
        """Return the mean seconds lately; 0 before anything was measured."""
        with self._lock:
            return self._seconds / self._weight if self._weight else 0.0

    def expect(self, size: float) -> float:
        """Return the expected seconds; 0 before anything was measured."""
        with self._lock:
            if not self._weight:
                return 0.0
            mean_size, mean_seconds = self._size / self._weight, self._seconds / self._weight
            spread = self._size_size / self._weight - mean_size * mean_size
            common = self._size_seconds / self._weight - mean_size * mean_seconds
        slope = max(0.0, common / spread) if spread > 1e-4 * mean_size * mean_size else 0.0
        return max(0.1 * mean_seconds, mean_seconds + slope * (size - mean_size))
