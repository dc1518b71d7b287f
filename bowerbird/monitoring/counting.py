"""Which of a key's events a read counts, by the kind of its aggregate, and why not the others."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from bowerbird.monitoring.evidence import Evidence, Mask
from bowerbird.monitoring.records import Indices
from bowerbird.plan.spec import MISSING_KEY, Aggregate

EPOCH_HALF_LIVES = 8
KEPT_EPOCHS = 4


@dataclass(frozen=True)
class Counted:
    """Of an aggregate's evidence: ``events`` bool [n] that its state holds, and how many were left out, by reason.

    ``behind``, bool [n], are those that the value follows from: with a time-to-live, also those that kept the state
    alive.
    """

    events: Mask
    left_out: dict[str, int]
    behind: Mask


def count_events(aggregate: Aggregate, evidence: Evidence, time: int) -> Counted:
    """Return which events a read at ``time`` (microseconds) counts."""
    if aggregate.kind == "tiles":
        return _in_window(aggregate, evidence, time)
    if aggregate.kind == "decayed":
        return _in_epochs(aggregate, evidence)
    remembered = _remembered(aggregate, evidence, time)
    left_out = _reasons(forgotten=~remembered)
    if aggregate.kind == "total":
        return Counted(remembered, left_out, remembered)
    if aggregate.kind == "top":
        named = evidence.fields[0] != MISSING_KEY
        return Counted(remembered & named, left_out | _reasons(without_a_value=remembered & ~named), remembered)
    keep = _sequence if aggregate.kind == "sequence" else _extreme
    kept = keep(aggregate, evidence, remembered)
    taken_back = remembered & ~kept & evidence.retracts
    replaced = remembered & ~kept & ~evidence.retracts
    left_out |= _reasons(taken_back=taken_back, superseded_by_other_events=replaced)
    return Counted(kept, left_out, remembered if aggregate.ttl else kept)


def tile_numbers(aggregate: Aggregate, times: Indices) -> Indices:
    """Return int64 [n]: the tile that each time (microseconds) falls in, counted from 1970."""
    return times // aggregate.tile


def decay_weights(aggregate: Aggregate, evidence: Evidence, time: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return float64 [n]: what each event still counts at ``time``, for display."""
    return np.exp2(-(time - evidence.times) / aggregate.half_life)


def _reasons(**left_out: Mask) -> dict[str, int]:
    return {name.replace("_", " "): int(mask.sum()) for name, mask in left_out.items() if mask.any()}


def _in_window(aggregate: Aggregate, evidence: Evidence, time: int) -> Counted:
    """A window's tiles, less those that an event of a newer tile had made unreachable."""
    tiles = tile_numbers(aggregate, evidence.times)
    last, reach = time // aggregate.tile, aggregate.window // aggregate.tile
    newest = int(max(tiles.max(initial=last), last))
    too_old, ahead = tiles <= newest - reach, tiles > last
    left_out = _reasons(outside_the_window=too_old, after_the_read_time=ahead & ~too_old)
    return Counted(~too_old & ~ahead, left_out, ~too_old & ~ahead)


def _in_epochs(aggregate: Aggregate, evidence: Evidence) -> Counted:
    epochs = evidence.times // (EPOCH_HALF_LIVES * aggregate.half_life)
    too_old = epochs <= epochs.max(initial=0) - KEPT_EPOCHS
    return Counted(~too_old, _reasons(decayed_to_nothing=too_old), ~too_old)


def _remembered(aggregate: Aggregate, evidence: Evidence, time: int) -> Mask:
    """Return bool [n]: what came after the last moment at which the time-to-live let the state be forgotten."""
    if not aggregate.ttl or not len(evidence):
        return np.ones(len(evidence), bool)
    latest = np.maximum.accumulate(np.where(evidence.retracts, 0, evidence.times))
    if latest[-1] == 0 or time - latest[-1] > aggregate.ttl:
        return np.zeros(len(evidence), bool)
    gaps = (latest[:-1] != 0) & (evidence.times[1:] - latest[:-1] > aggregate.ttl)
    first = int(np.flatnonzero(gaps)[-1]) + 1 if gaps.any() else 0
    return np.arange(len(evidence)) >= first


def _extreme(aggregate: Aggregate, evidence: Evidence, remembered: Mask) -> Mask:
    """Return the event of the largest (``last``) or smallest (``first``) time; retractions change neither."""
    kept = np.zeros(len(evidence), bool)
    rows = np.flatnonzero(remembered & ~evidence.retracts)
    if len(rows):
        times = evidence.times[rows]
        kept[rows[int(times.argmax() if aggregate.kind == "last" else times.argmin())]] = True
    return kept


def _sequence(aggregate: Aggregate, evidence: Evidence, remembered: Mask) -> Mask:
    """Return the entries that the sequence holds at the end, by entering the events one after another."""
    entries: list[tuple[int, tuple[int, ...], int]] = []
    columns = [column.tolist() for column in evidence.fields]
    for row in np.flatnonzero(remembered).tolist():
        entry = (int(evidence.times[row]), tuple(column[row] for column in columns), row)
        if evidence.retracts[row]:
            _remove_equal(entries, entry)
            continue
        if aggregate.distinct and not _replaces_equal(entries, entry):
            continue
        bisect.insort(entries, entry)
        del entries[: max(0, len(entries) - aggregate.length)]
    kept = np.zeros(len(evidence), bool)
    kept[[row for _, _, row in entries]] = True
    return kept


def _remove_equal(entries: list[tuple[int, tuple[int, ...], int]], entry: tuple[int, tuple[int, ...], int]) -> None:
    for at, (time, fields, _) in enumerate(entries):
        if (time, fields) == entry[:2]:
            del entries[at]
            return


def _replaces_equal(entries: list[tuple[int, tuple[int, ...], int]], entry: tuple[int, tuple[int, ...], int]) -> bool:
    """Remove a smaller entry of the same first field; return False where the one that is there is not smaller."""
    for at, (time, fields, _) in enumerate(entries):
        if fields[0] == entry[1][0]:
            if (time, fields) >= entry[:2]:
                return False
            del entries[at]
            return True
    return True
