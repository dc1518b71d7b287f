"""Sizes that may depend on the number of rows, and where a tensor's rows are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Size:
    """``times`` · rows + ``plus``."""

    times: int
    plus: int

    @property
    def fixed(self) -> bool:
        """Whether it does not depend on the rows."""
        return self.times == 0

    def at(self, rows: int) -> int:
        """Return the size for so many rows."""
        return self.times * rows + self.plus


ROWS = Size(1, 0)


class Rows(msgspec.Struct, frozen=True):
    """Where a tensor's rows are: dimension ``dim`` has ``outer`` · rows · ``inner`` places, row by row in the middle.

    ``reshape(B * L, D)`` of [B, L, D] has its rows in dimension 0 with ``inner`` L; without a fold both are 1.
    """

    dim: int
    outer: int = 1
    inner: int = 1

    @property
    def fold(self) -> int:
        """How many places one row has in the dimension."""
        return self.outer * self.inner


def reshaped_rows(rows: Rows, old: Sequence[Size], new: Sequence[Size]) -> Rows | None:
    """Return where the rows are after a reshape from ``old`` to ``new``; None where no one dimension holds them.

    In both shapes the rows are one axis of the elements' order, with P elements outside and Q inside: dimension d of
    the new shape holds it if the dimensions before d divide P, those behind d divide Q, and the rest is d's.
    """
    outside = math.prod(size.plus for size in old[: rows.dim]) * rows.outer
    inside = math.prod(size.plus for size in old[rows.dim + 1 :]) * rows.inner
    holders = [place for place, size in enumerate(new) if not size.fixed]
    if len(holders) != 1:
        return None
    dim = holders[0]
    before = math.prod(size.plus for size in new[:dim])
    behind = math.prod(size.plus for size in new[dim + 1 :])
    if not before or not behind or outside % before or inside % behind:
        return None
    found = Rows(dim, outside // before, inside // behind)
    return found if new[dim] == Size(found.fold, 0) else None


def row_shape(shape: Sequence[Size], rows: Rows | None) -> tuple[int, ...]:
    """Return one row's shape: the rows' dimension is gone, or holds what one row has of it where it is folded."""
    if rows is None:
        return tuple(size.plus for size in shape)
    fold = () if rows.fold == 1 else (rows.fold,)
    before, behind = shape[: rows.dim], shape[rows.dim + 1 :]
    return (*(size.plus for size in before), *fold, *(size.plus for size in behind))
