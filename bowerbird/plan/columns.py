"""Columns by name that stand in a few matrices: hundreds are handed on as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", bound=np.generic)
Matrix = npt.NDArray[Any]
_Lines = slice | npt.NDArray[np.int64]


class ColumnLayout:
    """Which columns stand in which matrix; compared by identity, for whoever reads knows the layouts that it made."""

    def __init__(self, names: Sequence[Sequence[str]]) -> None:
        self.names = tuple(tuple(each) for each in names)
        self.places = {name: (matrix, line) for matrix, each in enumerate(self.names) for line, name in enumerate(each)}


class Columns(Mapping[str, npt.NDArray[Value]], Generic[Value]):
    """Columns [rows, ...] by name: lines of ``matrices`` [columns, rows, ...], each of a length of its own."""

    __slots__ = ("layout", "matrices")

    def __init__(self, layout: ColumnLayout, matrices: Sequence[npt.NDArray[Value]]) -> None:
        self.layout = layout
        self.matrices = matrices

    def __getitem__(self, name: str) -> npt.NDArray[Value]:
        matrix, line = self.layout.places[name]
        column: npt.NDArray[Value] = self.matrices[matrix][line]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)

    def __contains__(self, name: object) -> bool:
        return name in self.layout.places

    @property
    def rows(self) -> int:
        """The length of the longest column, 0 where there is none."""
        return max((matrix.shape[1] for matrix in self.matrices if len(matrix)), default=0)


def longest(columns: Mapping[str, Matrix]) -> int:
    """Return the length of the longest of some columns, 0 where there is none."""
    return columns.rows if isinstance(columns, Columns) else max(map(len, columns.values()), default=0)


class Chosen:
    """Some columns by name, in an order; where they stand in a layout is worked out once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._known: tuple[ColumnLayout | None, tuple[int, _Lines] | None] = (None, None)

    def among(self, columns: Mapping[str, npt.NDArray[Value]]) -> Mapping[str, npt.NDArray[Value]]:
        """Return columns that have these, and maybe others; raises KeyError for one that is absent."""
        if not isinstance(columns, Columns):
            return {name: columns[name] for name in self.names}
        self._place(columns.layout)
        return columns

    def matrix(self, columns: Mapping[str, npt.NDArray[Value]]) -> npt.NDArray[Value]:
        """Return the columns side by side, [names, rows, ...]; those of one row are repeated beside longer ones.

        It is the memory of the columns where they stand side by side already. Raises KeyError for one that is absent.
        """
        if isinstance(columns, Columns):
            place = self._place(columns.layout)
            if place is not None:
                lines: npt.NDArray[Value] = columns.matrices[place[0]][place[1]]
                return lines
        return side_by_side([columns[name] for name in self.names])

    def length(self, columns: Mapping[str, npt.NDArray[Value]]) -> int:
        """Return how long the longest of the columns is; raises KeyError for one that is absent."""
        if isinstance(columns, Columns):
            place = self._place(columns.layout)
            if place is not None:
                rows: int = columns.matrices[place[0]].shape[1]
                return rows
        return max(len(columns[name]) for name in self.names)

    def _place(self, layout: ColumnLayout) -> tuple[int, _Lines] | None:
        known, place = self._known
        if known is not layout:
            place = _place(layout, self.names)
            self._known = (layout, place)
        return place


def _place(layout: ColumnLayout, names: tuple[str, ...]) -> tuple[int, _Lines] | None:
    """Return in which matrix and on which lines some columns stand; None where in several, or in none."""
    places = [layout.places[name] for name in names]  # also says which is absent
    if len({matrix for matrix, _ in places}) != 1:
        return None
    lines = np.array([line for _, line in places], np.int64)
    if np.array_equal(lines, np.arange(lines[0], lines[0] + len(lines))):
        return places[0][0], slice(int(lines[0]), int(lines[0]) + len(lines))
    return places[0][0], lines


def side_by_side(columns: Sequence[npt.NDArray[Value]]) -> npt.NDArray[Value]:
    """Return columns [rows, ...] as one matrix [columns, rows, ...]; one row is repeated beside longer columns."""
    rows = max(map(len, columns))
    flat = np.concatenate(columns)
    if len(flat) < rows * len(columns):
        flat = np.concatenate([np.broadcast_to(each, (rows, *each.shape[1:])) for each in columns])
    return flat.reshape(len(columns), rows, *flat.shape[1:])
