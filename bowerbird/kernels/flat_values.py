"""Values of some rows by name, end to end in a few arrays: hundreds are handed on as these few."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Part = npt.NDArray[Any]


class FlatLayout:
    """Names and a row's shapes of what stands in each part, in order; compared by identity."""

    def __init__(self, parts: Sequence[Mapping[str, Shape]]) -> None:
        self.places: dict[str, tuple[int, int, Shape]] = {}
        for number, part in enumerate(parts):
            start = 0
            for name, shape in part.items():
                self.places[name] = (number, start, shape)
                start += math.prod(shape)

    def starts(self, names: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return (part, first number in it) of a row's values, int64 [names, 2]; raises KeyError for an absent one."""
        return np.array([self.places[name][:2] for name in names], np.int64).reshape(-1, 2)


class FlatValues(Mapping[str, Part]):
    """Values [rows, *shape] by name, one after another; ``parts`` are flat, contiguous and of one type each."""

    __slots__ = ("layout", "parts", "rows")

    def __init__(self, layout: FlatLayout, parts: list[Part], rows: int = 1) -> None:
        self.layout = layout
        self.parts = parts
        self.rows = rows

    def __getitem__(self, name: str) -> Part:
        number, start, shape = self.layout.places[name]
        rows = self.rows
        return self.parts[number][rows * start : rows * (start + math.prod(shape))].reshape(rows, *shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)
