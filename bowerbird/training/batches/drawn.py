"""Some of the samples of several files, as one block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.block_rows import take_rows
from bowerbird.training.batches.dataset import SampleRows

Indices = npt.NDArray[np.int64]


def draw_samples(parts: Sequence[SampleRows], most: int, seed: int) -> SampleRows:
    """Return at most ``most`` samples, drawn evenly without replacement, in the order in which they stand."""
    total = sum(len(part) for part in parts)
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:most])
    ends = np.cumsum([len(part) for part in parts])
    taken = [
        _take(part, chosen[(chosen >= end - len(part)) & (chosen < end)] - (end - len(part)))
        for part, end in zip(parts, ends.tolist(), strict=True)
    ]
    return SampleRows(
        _join_blocks([part.block for part in taken]),
        _join_columns([part.labels for part in taken]),
        np.concatenate([part.weight for part in taken]),
        np.concatenate([part.user for part in taken]),
        np.concatenate([part.item for part in taken]),
        np.concatenate([part.time for part in taken]),
    )


def _take(part: SampleRows, chosen: Indices) -> SampleRows:
    return SampleRows(
        take_rows(part.block, chosen),
        {task: label[chosen] for task, label in part.labels.items()},
        part.weight[chosen],
        part.user[chosen],
        part.item[chosen],
        part.time[chosen],
    )


def _join_blocks(blocks: Sequence[FeatureBlock]) -> FeatureBlock:
    first = blocks[0]
    return FeatureBlock(
        _join_columns([block.categories for block in blocks]),
        _join_columns([block.numbers for block in blocks]),
        {name: _join_ragged([block.sequences[name] for block in blocks]) for name in first.sequences},
        first.lsn,
        _join_columns([block.vectors for block in blocks]),
    )


def _join_ragged(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(offsets, _join_columns([part.fields for part in parts]), np.concatenate([part.age for part in parts]))


def _join_columns(columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
