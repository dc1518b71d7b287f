"""Feature columns with keys replaced by table rows and sequences padded: what a lookup takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.inputs import CategoryInput, Inputs, NumberInput, VectorInput
from bowerbird.plan.block import Numbers
from bowerbird.plan.columns import longest

_Value = TypeVar("_Value", bound=np.generic)

Rows = npt.NDArray[np.integer[Any]]
"""Rows of a table, int32 or int64."""


@dataclass(frozen=True)
class PaddedSequence:
    """Sequences of several rows as rectangles [rows, length], newest event first, padding after.

    ``categories`` are table rows, ``numbers`` and ``age`` float32 (0 on padding), ``mask`` is true on events.
    """

    categories: Mapping[str, Rows]
    numbers: dict[str, Numbers]
    age: Numbers
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RowBlock:
    """The features of some samples, ready for a lookup; shapes as in ``FeatureBlock``, unknown vectors zero."""

    categories: Mapping[str, Rows] = field(default_factory=dict)
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    sequences: dict[str, PaddedSequence] = field(default_factory=dict)
    vectors: dict[str, Numbers] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        """How many rows the block stands for: the longest column."""
        masks = (sequence.mask for sequence in self.sequences.values())
        others = max(map(len, chain(self.vectors.values(), masks)), default=0)
        return max(longest(self.categories), longest(self.numbers), others)


def columns_of(rows: RowBlock, inputs: Inputs) -> list[npt.NDArray[np.generic]]:
    """Return the columns of ``inputs``, each [rows] or [rows, ...]."""
    columns: list[npt.NDArray[Any]] = [rows.categories[item.name] for item in inputs.categories]
    columns += [rows.numbers[item.name] for item in inputs.numbers]
    columns += [rows.vectors[item.name] for item in inputs.vectors]
    for item in inputs.sequences:
        padded = rows.sequences[item.name]
        columns += [*padded.categories.values(), *padded.numbers.values(), padded.age, padded.mask]
    return columns


def block_of_columns(columns: Sequence[npt.NDArray[Any]], inputs: Inputs) -> RowBlock:
    """Return the block of the columns of ``inputs`` that ``columns_of`` gave."""
    rest = iter(columns)

    def named(items: Iterable[CategoryInput | NumberInput | VectorInput]) -> dict[str, npt.NDArray[Any]]:
        return {item.name: next(rest) for item in items}

    return RowBlock(
        categories=named(inputs.categories),
        numbers=named(inputs.numbers),
        vectors=named(inputs.vectors),
        sequences={
            item.name: PaddedSequence(named(item.categories), named(item.numbers), next(rest), next(rest))
            for item in inputs.sequences
        },
    )


def column_vocabularies(inputs: Inputs) -> list[str | None]:
    """Return the vocabulary of each of the columns that ``columns_of`` gives, None of what are no rows of a table."""
    names: list[str | None] = [item.vocabulary for item in inputs.categories]
    names += [None] * (len(inputs.numbers) + len(inputs.vectors))
    for item in inputs.sequences:
        names += [*(field.vocabulary for field in item.categories), *[None] * (len(item.numbers) + 2)]
    return names


def parted(flat: npt.NDArray[_Value], shapes: Iterable[tuple[int, ...]]) -> Iterator[npt.NDArray[_Value]]:
    """Yield arrays of some shapes that stand end to end in a flat one, as views."""
    start = 0
    for shape in shapes:
        stop = start + math.prod(shape)
        yield flat[start:stop].reshape(shape)
        start = stop


def known_vectors(vectors: Numbers) -> Numbers:
    """Return float32 [rows, width] with zeros in place of what is unknown, memory of its own."""
    known: Numbers = np.nan_to_num(vectors.astype(np.float32, copy=False), nan=0.0)
    return known
