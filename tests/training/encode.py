"""Samples as the trainer holds them, from parts in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.training.batches.dataset import SampleRows
from bowerbird.training.batches.encoded import EncodedSamples, SampleEncoder


def encode_samples(collection: EmbeddingCollection, parts: Iterable[SampleRows]) -> EncodedSamples:
    """Return all parts' samples with their keys replaced by rows of the collection's tables."""
    given = list(parts)
    sequences = [feature.name for feature in collection.plan.of_kind("sequence")]
    events = {name: sum(int(part.block.sequences[name].offsets[-1]) for part in given) for name in sequences}
    encoder = SampleEncoder(collection, sum(len(part) for part in given), events)
    start = 0
    for part in given:
        encoder.put(part, np.arange(start, start + len(part)))
        start += len(part)
    return encoder.finish()
