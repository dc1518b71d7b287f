"""Reading the write-ahead log, also while a server writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bowerbird.errors import CorruptionError
from bowerbird.log.live.segment import Segment, segments

Payload = dict[str, Any]
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


def wal_bounds(folder: Path) -> tuple[int, int] | None:
    """Return (base LSN, LSN after the last whole record), or None where there is no write-ahead log."""
    paths = segments(folder)
    if not paths:
        return None
    base = Segment(paths[0]).header.base
    last = Segment(paths[-1])
    for _ in last.records():
        pass
    return base, last.next_lsn


def read_wal(folder: Path, first: int, last: int | None = None) -> Iterator[tuple[int, Payload]]:
    """Yield (LSN, payload) of the records from ``first`` to below ``last`` (default: the end).

    Raises CorruptionError for damage, except an unfinished record at the very end, which is not there yet.
    """
    paths = segments(folder)
    for at, path in enumerate(paths):
        following = _first_lsn(paths[at + 1]) if at + 1 < len(paths) else None
        if following is not None and following <= first:
            continue
        if last is not None and _first_lsn(path) >= last:
            return
        yield from _read_segment(Segment(path), following, first, last)


def _read_segment(
    segment: Segment, following: int | None, first: int, last: int | None
) -> Iterator[tuple[int, Payload]]:
    for lsn, payload in segment.records():
        if last is not None and lsn >= last:
            return
        if lsn >= first:
            yield lsn, _decoder.decode(payload)
    if segment.fault is not None and (following is not None or segment.fault_was_acknowledged()):
        raise segment.corruption()
    if following is not None and segment.next_lsn != following:
        raise CorruptionError(
            f"{segment.path} ends at LSN {segment.next_lsn}, and the next segment begins at {following}.",
            "Restore the write-ahead log's folder from a backup.",
        )


def _first_lsn(path: Path) -> int:
    return int(path.stem.removeprefix("segment-"))
