"""What one request's inputs are, read from served tables into a few flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bowerbird.embedding.inputs import CategoryInput, Inputs, SequenceInput
from bowerbird.embedding.rows import RowBlock, Rows
from bowerbird.embedding.served_columns import ServedColumns
from bowerbird.embedding.table import Vectors
from bowerbird.kernels.flat_values import FlatLayout, FlatValues, Part, Shape
from bowerbird.plan.columns import Chosen

Tables = Callable[[tuple[str, ...]], ServedColumns]
"""From vocabularies to their tables, side by side."""


class RequestReader:
    """Reads some inputs of blocks whose columns of these have one row."""

    def __init__(self, inputs: Inputs, tables: Tables) -> None:
        self._categories = _Embedded(inputs.categories, tables)
        self._numbers = Chosen([item.name for item in inputs.numbers])
        self._sequences = [(item, _Embedded(item.categories, tables)) for item in inputs.sequences]
        self._vectors = [item.name for item in inputs.vectors]
        self._layout = FlatLayout(_parts(inputs))

    def __call__(self, rows: RowBlock) -> FlatValues:
        """Return the inputs; what is looked up has memory of its own."""
        parts: list[Part] = []
        if self._categories:
            parts.append(self._categories.vectors(rows.categories))
        if self._numbers.names:
            parts.append(self._numbers.matrix(rows.numbers).reshape(-1))
        for item, embedded in self._sequences:
            padded = rows.sequences[item.name]
            if embedded:
                parts.append(embedded.vectors(padded.categories))
            parts += [padded.numbers[each.name].reshape(-1) for each in item.numbers]
            parts += [padded.age.reshape(-1), padded.mask.reshape(-1)]
        parts += [np.ascontiguousarray(rows.vectors[name]).reshape(-1) for name in self._vectors]
        return FlatValues(self._layout, parts)


class _Embedded:
    """Categories that are looked up side by side."""

    def __init__(self, items: tuple[CategoryInput, ...], tables: Tables) -> None:
        self._chosen = Chosen([item.name for item in items])
        self._tables = tables(tuple(item.vocabulary for item in items))

    def __bool__(self) -> bool:
        return bool(self._chosen.names)

    def vectors(self, columns: Mapping[str, Rows]) -> Vectors:
        return self._tables.take_flat(self._chosen.matrix(columns))


def _parts(inputs: Inputs) -> list[dict[str, Shape]]:
    """Return the names and shapes of what a request's parts hold, part by part."""
    parts: list[dict[str, Shape]] = [
        {item.name: (item.dimension,) for item in inputs.categories},
        {item.name: () for item in inputs.numbers},
    ]
    for item in inputs.sequences:
        parts += _sequence_parts(item)
    parts += [{item.name: (item.width,)} for item in inputs.vectors]
    return [part for part in parts if part]


def _sequence_parts(item: SequenceInput) -> list[dict[str, Shape]]:
    numbers = [*(each.name for each in item.numbers), item.age, item.mask]
    vectors: dict[str, Shape] = {each.name: (item.length, each.dimension) for each in item.categories}
    alone: list[dict[str, Shape]] = [{name: (item.length,)} for name in numbers]
    return [vectors, *alone]
