"""One 64-bit hash of each row of several columns, on a native kernel, and its twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird import _native

Matrix = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]
_PRIME, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Odd numbers whose products mix bits well (Steele, Lea and Flood, 2014)."""
_HALF = np.uint64(32)


def hash_rows(matrices: Sequence[Matrix], rows: int) -> Hashes:
    """Return uint64 [rows] of contiguous matrices [columns, rows] with elements of 1, 4 or 8 bytes.

    Rows that differ in one element alone never collide: an element's part of the sum is a one to one function of it,
    another one for each column. Two of n rows collide with probability n²/2⁶⁵. Raises ValueError for another matrix.
    """
    return _native.hash_rows(list(matrices), rows)


def hash_rows_twin(matrices: Sequence[Matrix], rows: int) -> Hashes:
    """Return what ``hash_rows`` does."""
    total, start = np.zeros(rows, np.uint64), 0
    for matrix in matrices:
        for column in matrix.view(f"u{matrix.itemsize}"):
            start = (start + _PRIME) & _MASK
            bits = column.astype(np.uint64) + np.uint64(start)
            for factor in _FACTORS:
                bits = (bits ^ (bits >> _HALF)) * factor
            total += bits ^ (bits >> _HALF)
    return total
