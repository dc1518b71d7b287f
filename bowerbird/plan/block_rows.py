"""Rows of feature blocks: taking some, and walking through many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import FeatureBlock, Ragged

Indices = npt.NDArray[np.int64]


def take_rows(block: FeatureBlock, indices: Indices) -> FeatureBlock:
    """Return the rows at ``indices``; every feature must have one row per sample."""
    return take_each(block, lambda name, rows: indices)


def take_each(block: FeatureBlock, chosen: Callable[[str, int], Indices]) -> FeatureBlock:
    """Return of each feature the rows at ``chosen(name, rows)``, given how many rows it has."""
    return FeatureBlock(
        {name: keys[chosen(name, len(keys))] for name, keys in block.categories.items()},
        {name: values[chosen(name, len(values))] for name, values in block.numbers.items()},
        {name: _take_ragged(ragged, chosen(name, len(ragged))) for name, ragged in block.sequences.items()},
        block.lsn,
        {name: values[chosen(name, len(values))] for name, values in block.vectors.items()},
    )


def chunks(block: FeatureBlock, rows: int, size: int = 4096) -> Iterator[FeatureBlock]:
    """Yield a block of ``rows`` rows in pieces of ``size``."""
    for start in range(0, rows, size):
        yield take_rows(block, np.arange(start, min(start + size, rows)))


def _take_ragged(ragged: Ragged, indices: Indices) -> Ragged:
    starts, lengths = ragged.offsets[indices], ragged.offsets[indices + 1] - ragged.offsets[indices]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Ragged(offsets, {name: values[places] for name, values in ragged.fields.items()}, ragged.age[places])
