"""Time for requests and events: microseconds since 1970 that never go back within a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from bowerbird.errors import InputError


def _system_microseconds() -> int:
    return time.time_ns() // 1000


def time_source(file: Path | None) -> Callable[[], int]:
    """Return what tells the time in microseconds: the system, or a file that whoever plays back a log moves on."""
    return _system_microseconds if file is None else FileTime(file).read


class FileTime:
    """A time kept as text in a file (microseconds since 1970): what *now* is while a log is played back."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> int:
        """Return the time; InputError where the file does not hold one."""
        try:
            return int(self._file.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._file} does not tell the time: {error}.",
                "Write microseconds since 1970 into it, or drop server.clock to use the system's clock.",
            ) from error

    def set(self, time_us: int) -> None:
        """Move the time; readers see the old one or the new one."""
        temporary = self._file.with_name(f".{self._file.name}.tmp")
        temporary.write_text(str(time_us))
        temporary.replace(self._file)


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
