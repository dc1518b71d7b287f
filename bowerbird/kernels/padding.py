"""Sequences end to end as rectangles, on a native kernel, and its twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bowerbird import _native

Offsets = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
_Value = TypeVar("_Value", bound=np.generic)


def pad_sequences(
    offsets: Offsets, keys: Sequence[Keys], numbers: Sequence[Numbers], length: int
) -> tuple[Keys, Numbers, Mask]:
    """Return columns' newest events first, [columns, rows, length] with zeros after them, and where events are.

    Row r's events are ``[offsets[r]:offsets[r + 1]]`` of each column, oldest first; ``keys`` are uint64 and ``numbers``
    float32, contiguous. The mask is bool [rows, length]. Raises ValueError for other columns or offsets.
    """
    return _native.pad_sequences(offsets, list(keys), list(numbers), length)


def pad_sequences_twin(
    offsets: Offsets, keys: Sequence[Keys], numbers: Sequence[Numbers], length: int
) -> tuple[Keys, Numbers, Mask]:
    """Return what ``pad_sequences`` does."""
    positions = offsets[1:, None] - 1 - np.arange(length, dtype=np.int64)
    mask = positions >= offsets[:-1, None]
    places = np.where(mask, positions, 0)
    return _taken(keys, places, mask, np.uint64), _taken(numbers, places, mask, np.float32), mask


def pad_events(
    starts: Offsets, ends: Offsets, rows: Rows, numbers: Numbers, length: int
) -> tuple[Rows, Numbers, Mask]:
    """Return events newest first, [sequences, length, columns] with zeros after them, and where events are.

    Sequence s is the events ``[starts[s]:ends[s]]``, oldest first; ``rows`` are int32 and ``numbers`` float32,
    [events, columns] and contiguous. The mask is bool [sequences, length]. Raises ValueError for sequences that are not
    within the events. The GIL is released.
    """
    return _native.pad_events(starts, ends, rows, numbers, length)


def pad_events_twin(
    starts: Offsets, ends: Offsets, rows: Rows, numbers: Numbers, length: int
) -> tuple[Rows, Numbers, Mask]:
    """Return what ``pad_events`` does."""
    positions = ends[:, None] - 1 - np.arange(length, dtype=np.int64)
    mask = positions >= starts[:, None]
    places = np.where(mask, positions, 0)
    columns = _taken(rows.T, places, mask, np.int32), _taken(numbers.T, places, mask, np.float32)
    return np.moveaxis(columns[0], 0, -1), np.moveaxis(columns[1], 0, -1), mask


def _taken(
    columns: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    places: npt.NDArray[np.int64],
    mask: Mask,
    dtype: type[_Value],
) -> npt.NDArray[_Value]:
    taken = np.zeros((len(columns), *places.shape), dtype)
    for own, column in zip(taken, columns, strict=True):
        own[mask] = column[places[mask]]
    return taken
