"""A plan's features as the columns of a table for gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.collection import Counts
from bowerbird.embedding.inputs import vocabulary_of
from bowerbird.embedding.key_index import RESERVED_ROWS, KeyIndex
from bowerbird.errors import CorruptionError
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Plan

Matrix = npt.NDArray[np.float64]


class TreeColumns:
    """Numbers and vectors' components as they are, and each category as its admitted key's code and the key's count.

    Codes follow frequency (2 is the most frequent), so that an ordered split means something even for many
    values; no label takes part. Categories with at most ``categorical_limit`` codes are ``categorical``:
    the trees may split them into any two sets. Sequences are skipped.
    """

    categorical_limit = 1_000

    def __init__(self, plan: Plan, minimum_count: int) -> None:
        self.plan = plan
        self.minimum_count = minimum_count
        self._features = [(item.name, vocabulary_of(item)) for item in plan.of_kind("category")]
        self._numbers = [item.name for item in plan.of_kind("number")]
        self._vectors = [(item.name, item.width) for item in plan.of_kind("vector")]
        self._indexes = {vocabulary: KeyIndex() for _, vocabulary in self._features}
        self._frequency = {vocabulary: np.zeros(RESERVED_ROWS) for _, vocabulary in self._features}

    @property
    def skipped(self) -> list[str]:
        """The features that trees cannot take: sequences."""
        return [feature.name for feature in self.plan.of_kind("sequence")]

    @property
    def names(self) -> list[str]:
        """The columns, in order."""
        columns = list(self._numbers)
        columns += [f"{name}.{component}" for name, width in self._vectors for component in range(width)]
        for name, _ in self._features:
            columns += [name, f"{name}.count"]
        return columns

    @property
    def categorical(self) -> list[str]:
        """The columns that hold unordered codes."""
        return [name for name, key in self._features if len(self._indexes[key]) <= self.categorical_limit]

    def fit(self, counts: Counts) -> None:
        """Admit the training set's keys; ``counts`` are by vocabulary."""
        for vocabulary, index in self._indexes.items():
            keys, frequency = counts[vocabulary]
            index.admit(keys, frequency, self.minimum_count)
            by_row = np.zeros(len(index))
            rows = index.find(keys)
            np.add.at(by_row, rows, frequency.astype(np.float64))
            self._frequency[vocabulary] = by_row

    def transform(self, block: FeatureBlock) -> Matrix:
        """Return float64 [rows, columns]; columns of one row are repeated for the others'."""
        columns = [block.numbers[name].astype(np.float64) for name in self._numbers]
        for name, _ in self._vectors:
            columns += list(block.vectors[name].T.astype(np.float64))
        for name, vocabulary in self._features:
            rows = self._indexes[vocabulary].find(block.categories[name])
            columns += [rows.astype(np.float64), self._frequency[vocabulary][rows]]
        count = max((len(column) for column in columns), default=0)
        return np.stack([np.broadcast_to(column, count) for column in columns], axis=1)

    def export_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return ``<vocabulary>.keys`` and ``<vocabulary>.count``."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for vocabulary, index in self._indexes.items():
            arrays[f"{vocabulary}.keys"] = index.keys
            arrays[f"{vocabulary}.count"] = self._frequency[vocabulary]
        return arrays

    def import_arrays(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Replace the codes by exported ones; raises CorruptionError where a vocabulary is absent."""
        for vocabulary in self._indexes:
            if f"{vocabulary}.keys" not in arrays or f"{vocabulary}.count" not in arrays:
                raise CorruptionError(f"The codes lack the vocabulary {vocabulary!r}.", "Publish it again.")
            self._indexes[vocabulary] = KeyIndex(arrays[f"{vocabulary}.keys"].astype(np.uint64))
            self._frequency[vocabulary] = arrays[f"{vocabulary}.count"].astype(np.float64)
