"""Samples in memory with keys already replaced by table rows: batches are plain slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.inputs import field_vocabulary, vocabulary_of
from bowerbird.embedding.rows import PaddedSequence, RowBlock, Rows, known_vectors, padded_positions, take_padded
from bowerbird.models.ranker import NumberColumns
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Offsets
from bowerbird.training.dataset import Labels, SampleRows

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FlatSequence:
    """Sequences end to end, oldest event first; ``categories`` are int32 table rows."""

    offsets: Offsets
    categories: dict[str, Rows]
    numbers: dict[str, Numbers]
    age: Numbers
    length: int

    def batch(self, indices: Indices) -> PaddedSequence:
        """Return the padded sequences of some rows."""
        positions, mask = padded_positions(self.offsets[indices], self.offsets[indices + 1], self.length)
        return PaddedSequence(
            {name: take_padded(values, positions, mask) for name, values in self.categories.items()},
            {name: take_padded(values, positions, mask) for name, values in self.numbers.items()},
            take_padded(self.age, positions, mask),
            mask,
        )


@dataclass(frozen=True)
class Batch:
    """Samples for one step: rows for the lookup, labels (NaN while immature) and weights."""

    rows: RowBlock
    labels: Labels
    weight: Numbers


@dataclass(frozen=True)
class EncodedSamples:
    """Samples of a date range; what is not a feature is as in ``SampleRows``."""

    categories: dict[str, Rows]
    numbers: dict[str, Numbers]
    sequences: dict[str, FlatSequence]
    labels: Labels
    weight: Numbers
    user: Keys
    item: Keys
    time: npt.NDArray[np.int64]
    vectors: dict[str, Numbers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    def batch(self, indices: Indices) -> Batch:
        """Return the samples at ``indices``."""
        rows = RowBlock(
            {name: values[indices] for name, values in self.categories.items()},
            {name: values[indices] for name, values in self.numbers.items()},
            {name: sequence.batch(indices) for name, sequence in self.sequences.items()},
            {name: values[indices] for name, values in self.vectors.items()},
        )
        return Batch(rows, {name: values[indices] for name, values in self.labels.items()}, self.weight[indices])

    def batches(self, order: Indices, size: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches of ``size`` rows in the given order, from batch number ``first`` on."""
        for start in range(first * size, len(order), size):
            yield self.batch(order[start : start + size])

    def number_columns(self, limit: int = 200_000) -> NumberColumns:
        """Return values of every number tensor by name, evenly thinned to about ``limit`` values each."""
        columns = dict(self.numbers)
        for name, sequence in self.sequences.items():
            columns[f"{name}.age"] = sequence.age
            columns |= sequence.numbers
        return {name: values[:: max(1, len(values) // limit)] for name, values in columns.items()}


def base_rates(samples: EncodedSamples) -> dict[str, float]:
    """Return each label's weighted share of positives among mature samples; one half without any."""
    rates = {}
    for task, label in samples.labels.items():
        mass = np.where(np.isnan(label), 0.0, samples.weight)
        positive = (np.nan_to_num(label) * mass).sum()
        rates[task] = float(positive / mass.sum()) if mass.sum() > 0 else 0.5
    return rates


def encode_samples(collection: EmbeddingCollection, parts: Iterable[SampleRows]) -> EncodedSamples:
    """Return samples with their keys replaced by rows of the collection's tables."""
    encoded = [_encode_part(collection, part) for part in parts]
    if not encoded:
        empty = np.zeros(0, np.uint64)
        return EncodedSamples({}, {}, {}, {}, np.zeros(0, np.float32), empty, empty, np.zeros(0, np.int64))
    first = encoded[0]
    return EncodedSamples(
        {name: np.concatenate([part.categories[name] for part in encoded]) for name in first.categories},
        {name: np.concatenate([part.numbers[name] for part in encoded]) for name in first.numbers},
        {name: _join([part.sequences[name] for part in encoded]) for name in first.sequences},
        {name: np.concatenate([part.labels[name] for part in encoded]) for name in first.labels},
        np.concatenate([part.weight for part in encoded]),
        np.concatenate([part.user for part in encoded]),
        np.concatenate([part.item for part in encoded]),
        np.concatenate([part.time for part in encoded]),
        {name: np.concatenate([part.vectors[name] for part in encoded]) for name in first.vectors},
    )


def _encode_part(collection: EmbeddingCollection, part: SampleRows) -> EncodedSamples:
    block = part.block
    plan = collection.plan
    categories: dict[str, Rows] = {}
    for feature in plan.of_kind("category"):
        categories[feature.name] = _rows(collection, vocabulary_of(feature), block.categories[feature.name])
    sequences = {
        feature.name: _encode_sequence(collection, block, feature.name) for feature in plan.of_kind("sequence")
    }
    vectors = {feature.name: known_vectors(block.vectors[feature.name]) for feature in plan.of_kind("vector")}
    rest = (part.labels, part.weight, part.user, part.item, part.time)
    return EncodedSamples(categories, dict(block.numbers), sequences, *rest, vectors)


def _encode_sequence(collection: EmbeddingCollection, block: FeatureBlock, name: str) -> FlatSequence:
    feature = collection.plan.feature(name)
    ragged = block.sequences[name]
    categories: dict[str, Rows] = {}
    numbers: dict[str, Numbers] = {}
    for item in feature.fields:
        values = ragged.fields[item.name]
        if item.is_category:
            vocabulary = field_vocabulary(feature, item.name)
            categories[f"{name}.{item.name}"] = _rows(collection, vocabulary, values.astype(np.uint64))
        else:
            numbers[f"{name}.{item.name}"] = values.astype(np.float32)
    return FlatSequence(ragged.offsets, categories, numbers, ragged.age, feature.length)


def _rows(collection: EmbeddingCollection, vocabulary: str, keys: Keys) -> Rows:
    return collection.indexes[vocabulary].find(keys).astype(np.int32)


def _join(parts: list[FlatSequence]) -> FlatSequence:
    ends = np.cumsum([0] + [int(part.offsets[-1]) for part in parts])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, ends, strict=False)]
    first = parts[0]
    return FlatSequence(
        np.concatenate([*offsets, ends[-1:]]),
        {name: np.concatenate([part.categories[name] for part in parts]) for name in first.categories},
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in first.numbers},
        np.concatenate([part.age for part in parts]),
        first.length,
    )
