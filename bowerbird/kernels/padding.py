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


def _taken(
    columns: Sequence[npt.NDArray[Any]], places: npt.NDArray[np.int64], mask: Mask, dtype: type[_Value]
) -> npt.NDArray[_Value]:
    taken = np.zeros((len(columns), *places.shape), dtype)
    for own, column in zip(taken, columns, strict=True):
        own[mask] = column[places[mask]]
    return taken
