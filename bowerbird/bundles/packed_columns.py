"""Feature columns of items as a few matrices: hashed, chosen from and kept by a handful of operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.row_hash import hash_rows

Keys = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Columns: TypeAlias = Sequence[npt.NDArray[Any]]
"""Features of items, [items] or [items, ...] each."""


@dataclass(frozen=True)
class _Place:
    """Where a column stands: so many lines of a matrix; ``shape`` is an item's."""

    matrix: int
    start: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PackedColumns:
    """``matrices`` [lines, items], one of each type; a column of several numbers an item is as many lines."""

    matrices: list[npt.NDArray[Any]]
    places: list[_Place]

    @classmethod
    def of(cls, columns: Columns, items: int) -> PackedColumns:
        """Return columns, each [items] or [items, ...], side by side."""
        numbers: dict[np.dtype[Any], int] = {}
        lines: list[list[npt.NDArray[Any]]] = []
        starts: list[int] = []
        places = []
        for column in columns:
            number = numbers.setdefault(column.dtype, len(numbers))
            if number == len(lines):
                lines.append([])
                starts.append(0)
            shape = column.shape[1:]
            places.append(_Place(number, starts[number], shape))
            starts[number] += math.prod(shape)
            lines[number].append(column if not shape else column.reshape(items, -1).T.reshape(-1))
        return cls([np.concatenate(each).reshape(-1, items) for each in lines], places)

    @classmethod
    def side_by_side(cls, matrices: Sequence[npt.NDArray[Any]]) -> PackedColumns:
        """Return columns of one number an item that stand in matrices [columns, items], of another type each."""
        return cls(list(matrices), _lines(tuple(map(len, matrices))))

    def __len__(self) -> int:
        """Return how many items there are."""
        return self.matrices[0].shape[1] if self.matrices else 0

    @property
    def item_bytes(self) -> int:
        """The bytes of one item's features."""
        return sum(len(matrix) * matrix.itemsize for matrix in self.matrices)

    def hashes(self) -> Keys:
        """Return a 64-bit hash of each item's features; the order of columns matters."""
        return hash_rows(self.matrices, len(self))

    def at(self, positions: Positions) -> PackedColumns:
        """Return some of the items."""
        return replace(self, matrices=[matrix.take(positions, 1) for matrix in self.matrices])

    def columns(self) -> list[npt.NDArray[Any]]:
        """Return the columns, as they were given."""
        return [self._column(place) for place in self.places]

    def _column(self, place: _Place) -> npt.NDArray[Any]:
        matrix = self.matrices[place.matrix]
        if not place.shape:
            line: npt.NDArray[Any] = matrix[place.start]
            return line
        lines = matrix[place.start : place.start + math.prod(place.shape)]
        return np.ascontiguousarray(lines.T).reshape(matrix.shape[1], *place.shape)


@cache
def _lines(columns: tuple[int, ...]) -> list[_Place]:
    """Return the places of so many columns of each matrix, a line each."""
    return [_Place(number, line, ()) for number, count in enumerate(columns) for line in range(count)]
