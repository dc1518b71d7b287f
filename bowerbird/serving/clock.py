"""Time for requests and events: microseconds since 1970 that never go back within a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bowerbird.errors import InputError


def _system_microseconds() -> int:
    return time.time_ns() // 1000


class Clock:
    """The system's clock, held where it would go back (a leap, an NTP step) until it has caught up.

    ``floor`` is the latest time that the log holds, so that a restart does not go back either; it is not
    believed when it lies further ahead than ``tolerance`` microseconds.
    """

    def __init__(self, source: Callable[[], int] = _system_microseconds, tolerance: int = 3_600_000_000) -> None:
        self._source = source
        self._tolerance = tolerance
        self._lock = threading.Lock()
        self._latest = 0

    def now(self) -> int:
        """Return the time in microseconds, never less than an earlier answer."""
        with self._lock:
            self._latest = max(self._latest, self._source())
            return self._latest

    def raise_floor(self, time_us: int) -> None:
        """Never answer an earlier time than this; InputError where it lies too far in the future."""
        ahead = time_us - self._source()
        if ahead > self._tolerance:
            raise InputError(
                f"The log's last live record is {ahead / 1e6:.0f} s in the future.",
                "Set this machine's clock, which has gone back, before the server takes new events.",
            )
        with self._lock:
            self._latest = max(self._latest, time_us)
