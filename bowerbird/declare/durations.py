"""Durations as users write them: ``"90s"``, ``"5m"``, ``"1h"``, ``"7d"``."""

from __future__ import annotations

import re

MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PATTERN = re.compile(r"^(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)$")


def microseconds(duration: str) -> int:
    """Return a duration in microseconds; raises ValueError that names the accepted units."""
    found = _PATTERN.match(duration) if isinstance(duration, str) else None
    if found is None:
        raise ValueError(
            f"{duration!r} is not a duration; write a number and one of {', '.join(MICROSECONDS)}"
        )
    return round(float(found[1]) * MICROSECONDS[found[2]])
