"""What one key's aggregate holds and answers, by the NumPy twin: each answer is worked out anew from every event."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bowerbird.kernels.exp2 import exp2, scale_by_power
from bowerbird.plan.spec import MISSING_KEY, Aggregate

SECOND = 1_000_000
_LIMIT = 2.0**53
_SQUARES_LIMIT = 2.0**45
_EPOCHS = 4
_HALF_LIVES = 8
_WEIGHT_BITS = 20


@dataclass(frozen=True)
class Entry:
    """One event of one key: ``sign`` is -1 where it takes an earlier one back; fields are 64-bit words."""

    time: int
    value: float
    fields: tuple[int, ...]
    sign: int

    @property
    def order(self) -> tuple[int, tuple[int, ...]]:
        """What sequences are ordered by."""
        return self.time, self.fields


@dataclass
class Counted:
    """A value of a top: how often it was counted, and its latest event."""

    key: int
    count: int
    time: int


def seconds_between(earlier: int, later: int) -> float:
    """Return the seconds from one instant (microseconds) to another, at least 0."""
    return max(0, later - earlier) / SECOND


def alive(aggregate: Aggregate, entries: list[Entry], time: int) -> list[Entry]:
    """Return what a read at ``time`` sees of entries in LSN order: the time to live ends at a gap."""
    if aggregate.ttl == 0:
        return entries
    latest = 0
    kept: list[Entry] = []
    for entry in entries:
        if latest != 0 and entry.time - latest > aggregate.ttl:
            kept = []
        if entry.sign > 0:
            latest = max(latest, entry.time)
        kept.append(entry)
    return kept if latest != 0 and time - latest <= aggregate.ttl else []


def answer(aggregate: Aggregate, what: str, entries: list[Entry], time: int) -> float:
    """Return what a ``read`` node reads at ``time`` from entries that are alive."""
    if aggregate.kind in ("last", "first"):
        return _instant(aggregate, entries, time)
    if aggregate.kind == "decayed":
        return _decayed(aggregate, what, entries, time)
    inside = entries if aggregate.kind == "total" else _within(aggregate, entries, time)
    return _moments(aggregate, what, inside)


def _instant(aggregate: Aggregate, entries: list[Entry], time: int) -> float:
    times = [entry.time for entry in entries if entry.sign > 0]
    if not times:
        return math.nan
    return seconds_between(max(times) if aggregate.kind == "last" else min(times), time)


def _fixed(aggregate: Aggregate, entry: Entry) -> int:
    limit = _SQUARES_LIMIT if "squares" in aggregate.parts else _LIMIT
    return round(min(max(entry.value * aggregate.scale, -limit), limit))


def _within(aggregate: Aggregate, entries: list[Entry], time: int) -> list[Entry]:
    """Return the entries of the window's tiles, less those that no window reached once the newest tile was open."""
    reach = aggregate.window // aggregate.tile
    newest = max((entry.time // aggregate.tile for entry in entries), default=0)
    last = time // aggregate.tile
    first = max(newest, last) - reach + 1
    return [entry for entry in entries if first <= entry.time // aggregate.tile <= last]


def _moments(aggregate: Aggregate, what: str, entries: list[Entry]) -> float:
    scale = float(aggregate.scale)
    count = sum(entry.sign for entry in entries)
    if what == "count":
        return float(count)
    if what in ("min", "max"):
        values = [_fixed(aggregate, entry) for entry in entries if entry.sign > 0]
        if not values:
            return math.nan
        return float(min(values) if what == "min" else max(values)) / scale
    total = sum(entry.sign * _fixed(aggregate, entry) for entry in entries)
    if what == "sum":
        return float(total) / scale
    if count <= 0:
        return math.nan
    if what == "mean":
        return float(total) / scale / float(count)
    squares = sum(entry.sign * _fixed(aggregate, entry) ** 2 for entry in entries)
    return _deviation(count, total, squares) / scale


def _deviation(count: int, total: int, squares: int) -> float:
    middle = total // count
    around = squares - 2 * middle * total + count * middle * middle
    rest = float(total - middle * count) / float(count)
    return math.sqrt(max(float(around) / float(count) - rest * rest, 0.0))


def _decayed(aggregate: Aggregate, what: str, entries: list[Entry], time: int) -> float:
    count = _decayed_sum(aggregate, [(entry, 1) for entry in entries], time)
    if what == "count":
        return count
    total = _decayed_sum(aggregate, [(entry, _fixed(aggregate, entry)) for entry in entries], time)
    total = total / float(aggregate.scale)
    if what == "sum":
        return total
    return total / count if count > 0 else math.nan


def _decayed_sum(aggregate: Aggregate, amounts: list[tuple[Entry, int]], time: int) -> float:
    if not amounts:
        return 0.0
    half_life = float(aggregate.half_life)
    length = _HALF_LIVES * aggregate.half_life
    newest = max(entry.time // length for entry, _ in amounts)
    value = 0.0
    for epoch in range(newest - _EPOCHS + 1, newest + 1):
        inside = [(entry, amount) for entry, amount in amounts if entry.time // length == epoch]
        if not inside:
            continue
        total = sum(entry.sign * amount * _weight(entry.time - epoch * length, half_life) for entry, amount in inside)
        value = value + scale_by_power(float(total), _HALF_LIVES * (epoch - newest) - _WEIGHT_BITS)
    latest = max((entry.time for entry, _ in amounts if entry.sign > 0), default=time)
    return value * exp2(-(float(max(time, latest) - newest * length) / half_life))


def _weight(into_epoch: int, half_life: float) -> int:
    return round(scale_by_power(exp2(float(into_epoch) / half_life), _WEIGHT_BITS))


def sequence_of(aggregate: Aggregate, entries: list[Entry]) -> list[Entry]:
    """Return the events that a sequence keeps, oldest first."""
    kept: list[Entry] = []
    for entry in entries:
        if entry.sign < 0:
            equal = [at for at, old in enumerate(kept) if old.order == entry.order]
            if equal:
                kept.pop(equal[-1])
            continue
        kept = sorted([*kept, entry], key=lambda each: each.order)
        if aggregate.distinct:
            kept = [old for at, old in enumerate(kept) if old.fields[0] not in [n.fields[0] for n in kept[at + 1 :]]]
        kept = kept[-aggregate.length :]
    return kept


def top_of(aggregate: Aggregate, entries: list[Entry]) -> list[Counted]:
    """Return every value that a top counts, the most frequent first."""
    counted: dict[int, Counted] = {}
    for entry in entries:
        key = entry.fields[0]
        if key == MISSING_KEY or (key not in counted and entry.sign < 0):
            continue
        if key not in counted:
            if len(counted) == aggregate.length:
                del counted[min(counted.values(), key=lambda each: (each.count, each.time, each.key)).key]
            counted[key] = Counted(key, 0, entry.time)
        value = counted[key]
        value.count += entry.sign
        if entry.sign > 0:
            value.time = max(value.time, entry.time)
        if value.count == 0:
            del counted[key]
    return sorted(counted.values(), key=lambda each: (-each.count, -each.time, each.key))
