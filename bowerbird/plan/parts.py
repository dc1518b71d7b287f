"""Replays cut by key: each partition reads what its own keys hold, and the parts are joined row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import Offsets, Ragged

Rows = npt.NDArray[np.uint32]
NodeValues = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class PartSequence:
    """A sequence feature's rows that a partition owns, in the order of its ``owned`` rows of ``locate``."""

    feature: str
    locate: int
    rows: Ragged


@dataclass(frozen=True)
class PartColumns:
    """What one partition gives: by lookup the rows whose key it owns and the nodes that they fill.

    ``values`` uint64 [nodes, rows] holds every node that no key decides, and the others in owned rows.
    """

    owned: list[Rows]
    nodes: list[list[int]]
    values: NodeValues
    sequences: list[PartSequence]


def join_values(parts: Sequence[PartColumns]) -> NodeValues:
    """Return node values uint64 [nodes, rows] of all rows: each from the partition that owns its key."""
    joined = parts[0].values.copy()
    for part in parts[1:]:
        for owned, nodes in zip(part.owned, part.nodes, strict=True):
            for node in nodes:
                joined[node, owned] = part.values[node, owned]
    return joined


def join_sequences(parts: Sequence[PartColumns], rows: int) -> dict[str, Ragged]:
    """Return every sequence feature with one row per read."""
    return {
        sequence.feature: _join(
            [(part.owned[part.sequences[at].locate], part.sequences[at].rows) for part in parts], rows
        )
        for at, sequence in enumerate(parts[0].sequences)
    }


def _join(parts: Sequence[tuple[Rows, Ragged]], rows: int) -> Ragged:
    order = np.argsort(np.concatenate([owned for owned, _ in parts]), kind="stable")
    assert len(order) == rows, "the partitions do not own every row once"
    lengths = np.concatenate([np.diff(ragged.offsets) for _, ragged in parts])
    starts = np.concatenate([[0], np.cumsum(lengths)])[order]
    offsets: Offsets = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
    taken = np.repeat(starts - offsets[:-1], lengths[order]) + np.arange(offsets[-1])
    first = parts[0][1]
    fields = {name: _taken([ragged.fields[name] for _, ragged in parts], taken) for name in first.fields}
    return Ragged(offsets, fields, _taken([ragged.age for _, ragged in parts], taken))


def _taken(columns: Sequence[Any], at: npt.NDArray[Any]) -> Any:
    return np.concatenate(columns)[at]
