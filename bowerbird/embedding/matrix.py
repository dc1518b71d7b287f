"""Named columns of one dtype side by side, so that a batch's columns are gathered at once."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", bound=np.generic)

_MAPPED_BYTES = 1 << 17


@dataclass(frozen=True, eq=False)
class Matrix(Generic[Value]):
    """Columns by name that are views of ``values``.

    ``values`` is [..., columns] in row-major order, with the columns of ``names``; a column is [...].
    """

    names: tuple[str, ...]
    values: npt.NDArray[Value]

    def __getitem__(self, name: str) -> npt.NDArray[Value]:
        """Return a column, a view; raises KeyError."""
        try:
            place = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        column: npt.NDArray[Any] = self.values[..., place]
        return column

    def columns(self) -> MatrixColumns[Value]:
        """Return all columns by name, views."""
        return MatrixColumns(self)

    def take(self, indices: npt.NDArray[np.int64]) -> Matrix[Value]:
        """Return the rows at ``indices``, which may have any shape; memory of its own."""
        return Matrix(self.names, np.take(self.values, indices, axis=0))

    def span(self, start: int, stop: int) -> Matrix[Value]:
        """Return the rows from ``start`` to ``stop``, a view."""
        return Matrix(self.names, self.values[start:stop])


class MatrixColumns(dict[str, npt.NDArray[Value]]):
    """All columns of a ``matrix`` by name, views."""

    def __init__(self, matrix: Matrix[Value]) -> None:
        super().__init__((name, matrix.values[..., place]) for place, name in enumerate(matrix.names))
        self.matrix = matrix


def side_by_side(columns: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...]) -> Matrix[np.int32]:
    """Return at least the named columns [rows], int32, as a matrix: the one that they stand in, or a new one."""
    if isinstance(columns, MatrixColumns) and columns.matrix.values.dtype == np.int32:
        return columns.matrix
    return matrix_of({name: columns[name] for name in names}, len(columns[names[0]]), np.int32)


def empty_matrix(names: tuple[str, ...], rows: int, dtype: npt.DTypeLike) -> Matrix[Any]:
    """Return a matrix [rows, columns] to fill, of ``untouched`` memory."""
    return Matrix(names, untouched((rows, len(names)), dtype))


def untouched(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array to fill that takes memory only where it is written to, and gives all of it back when dropped.

    The general allocator keeps what was freed for later, and so may hold much more than what is in use.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _MAPPED_BYTES:
        return np.empty(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, dtype).reshape(shape)


def matrix_of(columns: Mapping[str, npt.NDArray[Any]], rows: int, dtype: npt.DTypeLike) -> Matrix[Any]:
    """Return columns [rows] as a matrix of ``dtype``, copied."""
    matrix = empty_matrix(tuple(columns), rows, dtype)
    for place, values in enumerate(columns.values()):
        matrix.values[:, place] = values
    return matrix
