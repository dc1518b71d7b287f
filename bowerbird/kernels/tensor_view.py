"""Views: where the numbers of a tensor stand in a value of a tensor program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Numbers of the value ``of``: the one at ``place`` stands at ``offset`` plus the sum of places by ``strides``."""

    of: str
    offset: int
    shape: Shape
    strides: Shape

    @classmethod
    def whole(cls, of: str, shape: Shape) -> View:
        """Return all of a value, row by row."""
        return cls(of, 0, shape, contiguous(shape))

    @property
    def rows_are_whole(self) -> bool:
        """Whether the numbers along the last dimension are neighbours."""
        return not self.shape or self.shape[-1] == 1 or self.strides[-1] == 1

    def permuted(self, dims: Sequence[int]) -> View:
        """Return the view with its dimensions in another order."""
        return replace(
            self, shape=tuple(self.shape[dim] for dim in dims), strides=tuple(self.strides[dim] for dim in dims)
        )

    def part(self, dim: int, start: int, stop: int, step: int = 1) -> View:
        """Return every ``step``-th place of a dimension, from ``start`` to before ``stop``."""
        count = max(0, -(-(stop - start) // step))
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = count, strides[dim] * step
        offset = self.offset + start * self.strides[dim]
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))

    def expanded(self, shape: Shape) -> View:
        """Return the view repeated along new first dimensions and along those of one place."""
        missing = len(shape) - len(self.shape)
        strides = (0,) * missing + self.strides
        own = (1,) * missing + self.shape
        spread = (0 if size == 1 else stride for size, stride in zip(own, strides, strict=True))
        return replace(self, shape=shape, strides=tuple(spread))


def contiguous(shape: Sequence[int]) -> Shape:
    """Return the strides of numbers that stand row by row."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides[: len(shape)])
