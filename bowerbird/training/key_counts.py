"""How often each key occurs in the training samples, which decides whether it gets a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.collection import Counts
from bowerbird.embedding.inputs import field_vocabulary, vocabularies, vocabulary_of
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.spec import MISSING_KEY, Plan
from bowerbird.training.dataset import SampleRows

_MERGED_KEYS = 1_000_000

_Counted = tuple[Keys, npt.NDArray[np.int64]]


def count_keys(plan: Plan, parts: Iterable[SampleRows]) -> Counts:
    """Return each vocabulary's distinct keys with their occurrences in categories and sequences together.

    Memory is bounded by a few times that of the distinct keys, however many parts there are.
    """
    counted: dict[str, list[_Counted]] = {name: [] for name in vocabularies(plan)}
    for part in parts:
        for vocabulary, keys in _columns(plan, part.block):
            pieces = counted[vocabulary]
            pieces.append(np.unique(keys, return_counts=True))
            if sum(len(piece[0]) for piece in pieces[1:]) > max(len(pieces[0][0]), _MERGED_KEYS):
                counted[vocabulary] = [_merge(pieces)]
    return {vocabulary: _present(_merge(pieces)) for vocabulary, pieces in counted.items()}


def _columns(plan: Plan, block: FeatureBlock) -> Iterator[tuple[str, Keys]]:
    for feature in plan.of_kind("category"):
        yield vocabulary_of(feature), block.categories[feature.name]
    for feature in plan.of_kind("sequence"):
        for item in feature.fields:
            if item.is_category:
                values = block.sequences[feature.name].fields[item.name]
                yield field_vocabulary(feature, item.name), values.astype(np.uint64)


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
