"""Time zones as tables of transitions, so that engines need no zone database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2050, 1, 1, tzinfo=UTC)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


@lru_cache
def transitions(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return instants (microseconds since 1970) and the UTC offsets (microseconds) that hold from them.

    Covers 1970 to 2050. Raises ``zoneinfo.ZoneInfoNotFoundError`` for a name that IANA does not have.
    """
    zone = ZoneInfo(name)
    instants, offsets = [0], [_offset(zone, _FIRST)]
    day = _FIRST
    while day < _LAST:
        following = day + timedelta(days=1)
        if _offset(zone, following) != offsets[-1]:
            instant = _change_between(zone, day, following)
            instants.append(round((instant - _FIRST).total_seconds()) * 1_000_000)
            offsets.append(_offset(zone, instant))
        day = following
    return tuple(instants), tuple(round(offset.total_seconds()) * 1_000_000 for offset in offsets)


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second at which the offset differs from the one at ``before``."""
    old = _offset(zone, before)
    low, high = 0, round((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, before + timedelta(seconds=middle)) == old:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)
