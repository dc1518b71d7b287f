"""All embedding tables of a model: 64-bit keys in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs, field_vocabulary, inputs_of, vocabularies, vocabulary_of
from bowerbird.embedding.key_index import RESERVED_ROWS, KeyIndex
from bowerbird.embedding.rows import PaddedSequence, RowBlock, Rows, known_vectors, padded_positions, take_padded
from bowerbird.errors import CorruptionError, InputError
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged
from bowerbird.plan.spec import Feature, Plan

Counts = Mapping[str, tuple[Keys, npt.NDArray[np.int64]]]
"""By vocabulary: distinct keys and how often each was seen."""
Arrays = dict[str, npt.NDArray[np.generic]]


class EmbeddingCollection(nn.Module):
    """One table per vocabulary: row 0 stands for a missing key, row 1 for all that are not admitted.

    ``forward`` returns the model inputs of ``docs/design.md``: a category is float32 [rows, dimension], a
    number [rows], a sequence [rows, length, dimension] newest first with its age and mask, a vector
    [rows, width] (zeros where it is unknown).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes and admission."""

        dimension: int = 16
        """Width of a row where ``dimensions`` says nothing."""
        dimensions: dict[str, int] = field(default_factory=dict)
        """Width by vocabulary."""
        minimum_count: int = 2
        """How often a key must be seen in training to get a row of its own."""
        initial_scale: float = 0.01
        """Standard deviation of new rows."""
        sparse_rows: int = 1_000_000
        """Tables of at least so many rows have sparse gradients."""

        def build(self, plan: Plan) -> EmbeddingCollection:
            """Return empty tables for a plan's vocabularies; raises InputError for an unknown one."""
            return EmbeddingCollection(plan, self)

    def __init__(self, plan: Plan, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or EmbeddingCollection.Config()
        self.plan = plan
        self.vocabularies = vocabularies(plan)
        self._places = {name: place for place, name in enumerate(self.vocabularies)}
        _check_vocabularies(self.config, self.vocabularies)
        self.inputs: Inputs = inputs_of(plan, self.dimension_of)
        self.indexes = {name: KeyIndex() for name in self.vocabularies}
        self.tables = nn.ParameterList([self._new_rows(name, RESERVED_ROWS) for name in self.vocabularies])

    def dimension_of(self, vocabulary: str) -> int:
        """Return the width of a vocabulary's rows."""
        return self.config.dimensions.get(vocabulary, self.config.dimension)

    def table(self, vocabulary: str) -> nn.Parameter:
        """Return a vocabulary's rows, float32 [rows, dimension]."""
        table: nn.Parameter = self.tables[self._places[vocabulary]]
        return table

    @property
    def dense_tables(self) -> list[nn.Parameter]:
        """The tables with dense gradients: every row takes part in a step."""
        return [table for table in self.tables if len(table) < self.config.sparse_rows]

    @property
    def sparse_tables(self) -> list[nn.Parameter]:
        """The tables with sparse gradients."""
        return [table for table in self.tables if len(table) >= self.config.sparse_rows]

    def admit(self, counts: Counts) -> dict[str, int]:
        """Give rows to the new keys that were seen often enough; return how many by vocabulary.

        Tables grow, so an optimiser must be built afterwards.
        """
        admitted = {}
        for name, (keys, frequency) in counts.items():
            admitted[name] = self.indexes[name].admit(keys, frequency, self.config.minimum_count)
            if admitted[name]:
                grown = torch.cat([self.table(name).detach(), self._new_rows(name, admitted[name])])
                self.tables[self._places[name]] = nn.Parameter(grown)
        return admitted

    def encode(self, block: FeatureBlock) -> RowBlock:
        """Return the block with keys replaced by rows and sequences padded to the plan's length.

        Raises InputError when the block lacks a feature of the plan.
        """
        try:
            return RowBlock(
                categories={
                    feature.name: self.indexes[vocabulary_of(feature)].find(block.categories[feature.name])
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

    def lookup(self, rows: RowBlock, expand_sequences: bool = True) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows; columns of one row are expanded.

        Without ``expand_sequences`` sequences of one row stay as they are: for graphs of one request.
        """
        features: dict[str, Tensor] = {}
        for category in self.inputs.categories:
            features[category.name] = self._embed(category.vocabulary, rows.categories[category.name])
        for number in self.inputs.numbers:
            features[number.name] = torch.from_numpy(rows.numbers[number.name])
        for sequence in self.inputs.sequences:
            padded = rows.sequences[sequence.name]
            for item in sequence.categories:
                features[item.name] = self._embed(item.vocabulary, padded.categories[item.name])
            for value in sequence.numbers:
                features[value.name] = torch.from_numpy(padded.numbers[value.name])
            features[sequence.age] = torch.from_numpy(padded.age)
            features[sequence.mask] = torch.from_numpy(padded.mask)
        for vector in self.inputs.vectors:
            features[vector.name] = torch.from_numpy(rows.vectors[vector.name])
        kept = set() if expand_sequences else {name for item in self.inputs.sequences for name in item.tensors}
        count = rows.count
        return {
            name: value if value.shape[0] == count or name in kept else value.expand(count, *value.shape[1:])
            for name, value in features.items()
        }

    def forward(self, block: FeatureBlock | RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block; see the class."""
        return self.lookup(block if isinstance(block, RowBlock) else self.encode(block))

    def export_arrays(self) -> Arrays:
        """Return ``<vocabulary>.keys`` uint64 [n] and ``<vocabulary>.rows`` float32 [n + 2, dimension]."""
        arrays: Arrays = {}
        for name in self.vocabularies:
            arrays[f"{name}.keys"] = self.indexes[name].keys
            arrays[f"{name}.rows"] = self.table(name).detach().numpy()
        return arrays

    def import_arrays(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Replace all tables by exported arrays; raises CorruptionError where one is absent or misshapen."""
        for position, name in enumerate(self.vocabularies):
            keys, rows = arrays.get(f"{name}.keys"), arrays.get(f"{name}.rows")
            if keys is None or rows is None:
                raise CorruptionError(f"The tables lack the vocabulary {name!r}.", "Publish the version again.")
            if rows.shape != (len(keys) + RESERVED_ROWS, self.dimension_of(name)):
                raise CorruptionError(
                    f"Table {name!r} has {len(keys)} keys but rows of shape {rows.shape}.",
                    "Publish the version again.",
                )
            self.indexes[name] = KeyIndex(keys.astype(np.uint64))
            self.tables[position] = nn.Parameter(torch.from_numpy(rows.astype(np.float32)))

    def _embed(self, vocabulary: str, rows: Rows) -> Tensor:
        table = self.table(vocabulary)
        sparse = table.shape[0] >= self.config.sparse_rows
        return functional.embedding(torch.from_numpy(rows), table, sparse=sparse)

    def _encode_sequence(self, feature: Feature, ragged: Ragged) -> PaddedSequence:
        positions, mask = padded_positions(ragged.offsets[:-1], ragged.offsets[1:], feature.length)
        categories: dict[str, Rows] = {}
        numbers: dict[str, Numbers] = {}
        for item in feature.fields:
            name = f"{feature.name}.{item.name}"
            if item.is_category:
                keys = take_padded(ragged.fields[item.name], positions, mask)
                categories[name] = self.indexes[field_vocabulary(feature, item.name)].find(keys.astype(np.uint64))
            else:
                numbers[name] = take_padded(ragged.fields[item.name], positions, mask).astype(np.float32)
        age = take_padded(ragged.age, positions, mask).astype(np.float32)
        return PaddedSequence(categories, numbers, age, mask)

    def _new_rows(self, vocabulary: str, count: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(count, self.dimension_of(vocabulary)) * self.config.initial_scale)


def _writable(numbers: Numbers) -> Numbers:
    """Return the numbers as they are where PyTorch may share their memory, or else a copy."""
    return numbers if numbers.flags.writeable else numbers.copy()


def _check_vocabularies(config: EmbeddingCollection.Config, known: list[str]) -> None:
    unknown = sorted(set(config.dimensions) - set(known))
    if unknown:
        raise InputError(
            f"dimensions names the vocabulary {unknown[0]!r}, which the plan does not have.",
            f"Known vocabularies: {', '.join(known)}.",
        )
