"""Single values out of feature blocks: shown to a person, compared bit by bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.monitoring.names import Names
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Feature

Column = npt.NDArray[np.generic]


def columns_of(block: FeatureBlock) -> set[str]:
    """Return the names of a block's features."""
    return {*block.categories, *block.numbers, *block.sequences, *block.vectors}


def shown(feature: Feature, block: FeatureBlock, names: Names, row: int = 0) -> Any:
    """Return a row's value as JSON has it: an id, a number, a list of a sequence's entries; None for a missing one."""
    if feature.name in block.categories:
        return names.value(int(block.categories[feature.name][row]))
    if feature.name in block.numbers:
        return _number(block.numbers[feature.name][row])
    if feature.name in block.vectors:
        return [_number(value) for value in block.vectors[feature.name][row]]
    if feature.name in block.sequences:
        return _entries(feature, block, names, row)
    return None


def same_bits(name: str, one: FeatureBlock, other: FeatureBlock, other_name: str = "", row: int = 0) -> bool:
    """Return whether a row of ``one`` and the first row of ``other`` hold the same bits."""
    left, right = _row(one, name, row), _row(other, other_name or name, 0)
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True)
    )


def _number(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _entries(feature: Feature, block: FeatureBlock, names: Names, row: int) -> list[dict[str, Any]]:
    ragged = block.sequences[feature.name]
    entries = []
    for at in range(int(ragged.offsets[row]), int(ragged.offsets[row + 1])):
        entry: dict[str, Any] = {}
        for field in feature.fields:
            value = ragged.fields[field.name][at]
            entry[field.name] = names.value(int(value)) if field.is_category else _number(value)
        entries.append(entry | {"age": _number(ragged.age[at])})
    return entries


def _row(block: FeatureBlock, name: str, row: int) -> list[Column]:
    for columns in (block.categories, block.numbers, block.vectors):
        if name in columns:
            return [np.ascontiguousarray(columns[name][row : row + 1])]
    if name not in block.sequences:
        return []
    ragged = block.sequences[name]
    part = slice(int(ragged.offsets[row]), int(ragged.offsets[row + 1]))
    return [*(np.ascontiguousarray(values[part]) for values in ragged.fields.values()), ragged.age[part]]
