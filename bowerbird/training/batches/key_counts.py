"""How often each key occurs in the training samples, which decides whether it gets a row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.collection import Counts, block_keys
from bowerbird.embedding.inputs import vocabularies
from bowerbird.plan.block import Keys
from bowerbird.plan.spec import MISSING_KEY, Plan
from bowerbird.training.batches.dataset import SampleRows

_MERGED_KEYS = 1_000_000

_Counted = tuple[Keys, npt.NDArray[np.int64]]


def count_keys(plan: Plan, parts: Iterable[SampleRows]) -> Counts:
    """Return each vocabulary's distinct keys with their occurrences in categories and sequences together.

    Memory is bounded by a few times that of the distinct keys, however many parts there are.
    """
    counted: dict[str, list[_Counted]] = {name: [] for name in vocabularies(plan)}
    for part in parts:
        for vocabulary, keys in block_keys(plan, part.block):
            pieces = counted[vocabulary]
            pieces.append(np.unique(keys, return_counts=True))
            if sum(len(piece[0]) for piece in pieces[1:]) > max(len(pieces[0][0]), _MERGED_KEYS):
                counted[vocabulary] = [_merge(pieces)]
    return {vocabulary: _present(_merge(pieces)) for vocabulary, pieces in counted.items()}


def _merge(pieces: list[_Counted]) -> _Counted:
    if not pieces:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    keys, inverse = np.unique(np.concatenate([piece[0] for piece in pieces]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, inverse, np.concatenate([piece[1] for piece in pieces]))
    return keys, counts


def _present(counted: _Counted) -> _Counted:
    keys, counts = counted
    present = keys != MISSING_KEY
    return keys[present], counts[present]
