"""Cutting and joining batches of log records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.plan.batch import RETRACTION, RecordBatch, Slots, Times, Types, Vectors

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Placed:
    """Records with their LSNs, int64 [n] ascending."""

    lsns: Indices
    records: RecordBatch


def span(records: RecordBatch, start: int, stop: int) -> RecordBatch:
    """Return records [start, stop)."""
    slots = np.ascontiguousarray(records.slots[:, start:stop])
    rows = np.arange(start, min(stop, len(records)))
    return RecordBatch(records.types[start:stop], records.times[start:stop], slots, _vectors(records, rows))


def take(records: RecordBatch, rows: Indices) -> RecordBatch:
    """Return the records of some rows, int64 [m] ascending."""
    slots = np.ascontiguousarray(records.slots[:, rows])
    return RecordBatch(records.types[rows], records.times[rows], slots, _vectors(records, rows))


def join(parts: Sequence[Placed], slots: int) -> Placed:
    """Return records of several places in LSN order, each LSN once; ``slots`` is the plan's number of slots."""
    if not parts:
        empty = RecordBatch(np.empty(0, np.int32), np.empty(0, np.int64), np.empty((slots, 0), np.uint64))
        return Placed(np.empty(0, np.int64), empty)
    lsns = np.concatenate([part.lsns for part in parts])
    joined = RecordBatch(
        np.concatenate([part.records.types for part in parts]),
        np.concatenate([part.records.times for part in parts]),
        np.concatenate([part.records.slots for part in parts], axis=1),
        _joined_vectors([part.records for part in parts]),
    )
    unique, first = np.unique(lsns, return_index=True)
    return Placed(unique, gather(joined, first))


def plain_types(types: Types) -> tuple[Types, npt.NDArray[np.bool_]]:
    """Return type indices without the mark of a retraction, and bool [n]: where it was."""
    retracts = types >= RETRACTION
    return np.where(retracts, types - RETRACTION, types).astype(np.int32), retracts


def _vectors(records: RecordBatch, rows: Indices) -> Vectors:
    """Return the vectors of ascending rows, under their new row numbers."""
    found = {}
    for slot, (places, vectors) in records.vectors.items():
        _, new, old = np.intersect1d(rows, places, assume_unique=True, return_indices=True)
        found[slot] = (new.astype(np.int64), vectors[old])
    return found


def _joined_vectors(batches: Sequence[RecordBatch]) -> Vectors:
    places: dict[int, list[Times]] = {}
    vectors: dict[int, list[npt.NDArray[np.float32]]] = {}
    start = 0
    for batch in batches:
        for slot, (rows, values) in batch.vectors.items():
            places.setdefault(slot, []).append(rows + start)
            vectors.setdefault(slot, []).append(values)
        start += len(batch)
    return {slot: (np.concatenate(places[slot]), np.concatenate(vectors[slot])) for slot in places}


def gather(records: RecordBatch, rows: Indices) -> RecordBatch:
    """Return the records of distinct rows in any order."""
    slots: Slots = np.ascontiguousarray(records.slots[:, rows])
    new_of = np.full(len(records), -1, np.int64)
    new_of[rows] = np.arange(len(rows))
    vectors = {}
    for slot, (places, values) in records.vectors.items():
        new = new_of[places]
        order = np.argsort(new[new >= 0])
        vectors[slot] = (new[new >= 0][order], values[new >= 0][order])
    return RecordBatch(records.types[rows], records.times[rows], slots, vectors)
