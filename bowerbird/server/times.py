"""Times as answers show them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(time_us: int) -> str:
    """Return microseconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="microseconds")
