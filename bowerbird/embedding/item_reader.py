"""What some items' inputs are, read from served tables into a few flat arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.inputs import Inputs
from bowerbird.embedding.request_reader import Tables
from bowerbird.kernels.flat_values import FlatLayout, FlatValues, Part, Shape

Matrix = npt.NDArray[Any]


class ItemReader:
    """Reads inputs that are one number each from matrices [columns, items]: rows of tables, then numbers.

    ``stacks`` are numbers by a name under which they stand side by side, [items, numbers], instead of one by one.
    """

    def __init__(self, inputs: Inputs, tables: Tables, stacks: Mapping[str, Sequence[str]]) -> None:
        lines = {item.name: line for line, item in enumerate(inputs.numbers)}
        alone = [name for name in lines if not any(name in names for names in stacks.values())]
        self._tables = tables(tuple(item.vocabulary for item in inputs.categories)) if inputs.categories else None
        self._sizes = [len(each) for each in (inputs.categories, inputs.numbers) if each]
        self._stacks = [_lines([lines[name] for name in names], len(lines)) for names in stacks.values()]
        self._alone = np.array([lines[name] for name in alone], np.int64)
        parts: list[dict[str, Shape]] = [{item.name: (item.dimension,) for item in inputs.categories}]
        parts += [{name: (len(names),)} for name, names in stacks.items()]
        parts.append({name: () for name in alone})
        self._layout = FlatLayout([part for part in parts if part])

    def takes(self, matrices: Sequence[Matrix]) -> bool:
        """Return whether matrices have the inputs' columns."""
        return [len(each) for each in matrices] == self._sizes

    def __call__(self, matrices: Sequence[Matrix]) -> FlatValues:
        """Return the inputs [items, *shape]; what is looked up has memory of its own."""
        parts: list[Part] = []
        if self._tables is not None:
            parts.append(self._tables.take_flat(matrices[0]))
        numbers = matrices[-1]
        parts += [np.ascontiguousarray(numbers[lines].T).reshape(-1) for lines in self._stacks]
        if len(self._alone):
            parts.append(numbers[self._alone].reshape(-1))
        return FlatValues(self._layout, parts, matrices[0].shape[1])


def _lines(lines: list[int], count: int) -> slice | npt.NDArray[np.int64]:
    """Return what chooses lines of a matrix: all as they stand, or some."""
    return slice(None) if lines == list(range(count)) else np.array(lines, np.int64)
