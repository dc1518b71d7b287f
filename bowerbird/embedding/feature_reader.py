"""From the features of a block to the tensors of a model, whatever holds the embedding rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bowerbird.embedding.inputs import CategoryInput, Inputs, field_vocabulary, vocabulary_of
from bowerbird.embedding.rows import PaddedSequence, RowBlock, Rows, known_vectors, padded_positions, take_padded
from bowerbird.errors import InputError
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged
from bowerbird.plan.spec import Feature, Plan


class FeatureReader:
    """Encodes blocks of a ``plan`` and looks their rows up; where rows are is a subclass's to say."""

    plan: Plan
    inputs: Inputs

    def find_rows(self, vocabulary: str, keys: Keys) -> Rows:
        """Return each key's row, in the keys' shape: 0 for the missing key, 1 for keys without a row."""
        raise NotImplementedError

    def embed(self, items: Sequence[CategoryInput], columns: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Return the vectors of category columns, float32 [..., dimension] each, by the items' names."""
        raise NotImplementedError

    def row_count(self, vocabulary: str) -> int:
        """Return how many rows a table has, the reserved ones included; all are below that."""
        raise NotImplementedError

    def inputs_from(self, block: FeatureBlock | RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block, encoded or not."""
        return self.lookup(block if isinstance(block, RowBlock) else self.encode(block))

    def encode(self, block: FeatureBlock) -> RowBlock:
        """Return the block with keys replaced by rows and sequences padded to the plan's length.

        Raises InputError when the block lacks a feature of the plan.
        """
        try:
            return RowBlock(
                categories={
                    feature.name: self.find_rows(vocabulary_of(feature), block.categories[feature.name])
                    for feature in self.plan.of_kind("category")
                },
                numbers={
                    feature.name: _writable(block.numbers[feature.name])
                    for feature in self.plan.of_kind("number")
                },
                sequences={
                    feature.name: self._encode_sequence(feature, block.sequences[feature.name])
                    for feature in self.plan.of_kind("sequence")
                },
                vectors={
                    feature.name: known_vectors(block.vectors[feature.name])
                    for feature in self.plan.of_kind("vector")
                },
            )
        except KeyError as missing:
            raise InputError(
                f"The block lacks the feature {missing.args[0]!r} of plan {self.plan.fingerprint}.",
                "Read features and score them with the same plan.",
            ) from missing

    def lookup(self, rows: RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows; columns of one row are expanded."""
        count = rows.count
        return {
            name: value if value.shape[0] == count else value.expand(count, *value.shape[1:])
            for name, value in self.lookup_once(rows).items()
        }

    def lookup_once(self, rows: RowBlock, inputs: Inputs | None = None) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows, or some of them; columns of one row stay as they are."""
        chosen = inputs or self.inputs
        features = self.embed(chosen.categories, rows.categories)
        for number in chosen.numbers:
            features[number.name] = torch.from_numpy(rows.numbers[number.name])
        for sequence in chosen.sequences:
            padded = rows.sequences[sequence.name]
            features |= self.embed(sequence.categories, padded.categories)
            for value in sequence.numbers:
                features[value.name] = torch.from_numpy(padded.numbers[value.name])
            features[sequence.age] = torch.from_numpy(padded.age)
            features[sequence.mask] = torch.from_numpy(padded.mask)
        for vector in chosen.vectors:
            features[vector.name] = torch.from_numpy(rows.vectors[vector.name])
        return features

    def _encode_sequence(self, feature: Feature, ragged: Ragged) -> PaddedSequence:
        positions, mask = padded_positions(ragged.offsets[:-1], ragged.offsets[1:], feature.length)
        categories: dict[str, Rows] = {}
        numbers: dict[str, Numbers] = {}
        for item in feature.fields:
            name = f"{feature.name}.{item.name}"
            if item.is_category:
                keys = take_padded(ragged.fields[item.name], positions, mask)
                categories[name] = self.find_rows(
                    field_vocabulary(feature, item.name), keys.astype(np.uint64)
                )
            else:
                numbers[name] = take_padded(ragged.fields[item.name], positions, mask).astype(np.float32)
        age = take_padded(ragged.age, positions, mask).astype(np.float32)
        return PaddedSequence(categories, numbers, age, mask)


def _writable(numbers: Numbers) -> Numbers:
    """Return the numbers as they are where PyTorch may share their memory, or else a copy."""
    return numbers if numbers.flags.writeable else numbers.copy()
