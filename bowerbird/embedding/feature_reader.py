"""From the features of a block to the tensors of a model, whatever holds the embedding rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.embedding.inputs import CategoryInput, Inputs, field_vocabulary, vocabulary_of
from bowerbird.embedding.rows import PaddedSequence, RowBlock, Rows, known_vectors
from bowerbird.errors import InputError
from bowerbird.kernels.padding import pad_sequences
from bowerbird.plan.block import FeatureBlock, Keys, Ragged
from bowerbird.plan.columns import Chosen, ColumnLayout, Columns
from bowerbird.plan.spec import Feature, Plan

Array = npt.NDArray[Any]
Embed = Callable[[Sequence[CategoryInput], Mapping[str, Rows]], dict[str, Tensor]]
_Value = TypeVar("_Value", Tensor, Array)


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

    def find_columns(self, vocabularies: tuple[str, ...], keys: Keys) -> Rows:
        """Return the rows of keys [columns, ...], each column of a vocabulary of its own; see ``find_rows``."""
        return np.stack([self.find_rows(name, each) for name, each in zip(vocabularies, keys, strict=True)])

    def vectors_of(self, items: Sequence[CategoryInput], columns: Mapping[str, Rows]) -> dict[str, Array]:
        """Return what ``embed`` does as arrays, which cost less than tensors where there are many."""
        return {name: vectors.numpy() for name, vectors in self.embed(items, columns).items()}

    def inputs_from(self, block: FeatureBlock | RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block, encoded or not."""
        return self.lookup(block if isinstance(block, RowBlock) else self.encode(block))

    def encode(self, block: FeatureBlock) -> RowBlock:
        """Return the block with keys replaced by rows and sequences padded to the plan's length.

        Raises InputError when the block lacks a feature of the plan.
        """
        columns = self._columns
        try:
            found = [self.find_columns(each.vocabularies, each.keys(block)) for each in columns.categories]
            return RowBlock(
                categories=Columns(columns.layout, found),
                numbers=columns.numbers.among(block.numbers),
                sequences={each.name: self._padded(each, block.sequences[each.name]) for each in columns.sequences},
                vectors={name: known_vectors(block.vectors[name]) for name in columns.vectors},
            )
        except KeyError as missing:
            raise InputError(
                f"The block lacks the feature {missing.args[0]!r} of plan {self.plan.fingerprint}.",
                "Read features and score them with the same plan.",
            ) from missing

    def lookup(self, rows: RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows; columns of one row are expanded."""
        return expanded(self.lookup_once(rows), rows.count)

    def lookup_once(
        self, rows: RowBlock, inputs: Inputs | None = None, embed: Embed | None = None
    ) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows, or some of them; columns of one row stay as they are."""
        return _looked_up(rows, inputs or self.inputs, embed or self.embed, _tensor)

    def arrays_once(self, rows: RowBlock, inputs: Inputs) -> dict[str, Array]:
        """Return what ``lookup_once`` does as arrays."""
        return _looked_up(rows, inputs, self.vectors_of, lambda column: column)

    def reader_of(self, inputs: Inputs) -> Callable[[RowBlock], Mapping[str, Array]]:
        """Return what does as ``arrays_once``, of one request at a time."""
        return partial(self.arrays_once, inputs=inputs)

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns(self.plan)

    def _padded(self, columns: _SequenceColumns, ragged: Ragged) -> PaddedSequence:
        fields = ragged.fields
        values = [fields[name].astype(np.float32, copy=False) for name in columns.values]
        given = [fields[name].astype(np.uint64, copy=False) for name in columns.keys]
        keys, (*numbers, age), mask = pad_sequences(ragged.offsets, given, [*values, ragged.age], columns.length)
        rows = self.find_columns(columns.vocabularies, keys)
        named = dict(zip(columns.numbers, numbers, strict=True))
        return PaddedSequence(Columns(columns.layout, [rows]), named, age, mask)


class _Columns:
    """The columns that a plan's blocks have, by kind; categories that have as many rows stand together."""

    def __init__(self, plan: Plan) -> None:
        categories = plan.of_kind("category")
        once = [each for each in categories if each.stage == "request"]
        others = [each for each in categories if each.stage != "request"]
        self.categories = [_CategoryColumns(features) for features in (once, others) if features]
        self.layout = ColumnLayout([each.chosen.names for each in self.categories])
        self.numbers = Chosen([each.name for each in plan.of_kind("number")])
        self.vectors = [each.name for each in plan.of_kind("vector")]
        self.sequences = [_SequenceColumns(feature) for feature in plan.of_kind("sequence")]


class _CategoryColumns:
    """Category features by name and vocabulary."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.chosen = Chosen([feature.name for feature in features])
        self.vocabularies = tuple(vocabulary_of(feature) for feature in features)

    def keys(self, block: FeatureBlock) -> Keys:
        """Return their keys in a block, uint64 [columns, rows]."""
        return self.chosen.matrix(block.categories).astype(np.uint64, copy=False)


class _SequenceColumns:
    """The fields of a sequence feature by kind; ``layout`` and ``numbers`` have the names of their tensors."""

    def __init__(self, feature: Feature) -> None:
        self.name, self.length = feature.name, feature.length
        self.keys = [field.name for field in feature.fields if field.is_category]
        self.values = [field.name for field in feature.fields if not field.is_category]
        self.layout = ColumnLayout([[f"{feature.name}.{name}" for name in self.keys]])
        self.numbers = [f"{feature.name}.{name}" for name in self.values]
        self.vocabularies = tuple(field_vocabulary(feature, name) for name in self.keys)


def expanded(features: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return tensors of ``count`` rows: those of one row are expanded."""
    return {
        name: value if value.shape[0] == count else value.expand(count, *value.shape[1:])
        for name, value in features.items()
    }


def _looked_up(
    rows: RowBlock,
    inputs: Inputs,
    embed: Callable[[Sequence[CategoryInput], Mapping[str, Rows]], dict[str, _Value]],
    given: Callable[[Array], _Value],
) -> dict[str, _Value]:
    """Return the inputs of a block of rows: vectors by ``embed``, all else by ``given``."""
    features = embed(inputs.categories, rows.categories)
    for number in inputs.numbers:
        features[number.name] = given(rows.numbers[number.name])
    for sequence in inputs.sequences:
        padded = rows.sequences[sequence.name]
        features |= embed(sequence.categories, padded.categories)
        for value in sequence.numbers:
            features[value.name] = given(padded.numbers[value.name])
        features[sequence.age] = given(padded.age)
        features[sequence.mask] = given(padded.mask)
    for vector in inputs.vectors:
        features[vector.name] = given(rows.vectors[vector.name])
    return features


def _tensor(column: Array) -> Tensor:
    """Return a column as a tensor, with its memory where that may be written to."""
    return torch.from_numpy(column if column.flags.writeable else column.copy())
