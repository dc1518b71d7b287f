"""Whether samples are held in memory or streamed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded import EncodedSamples, SampleEncoder
from bowerbird.training.batches.encoded_size import EncodedSize, bytes_text, machine_memory
from bowerbird.training.batches.source import BatchSource, MemorySource
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.stream import StreamSource

Placement = Literal["auto", "memory", "stream"]
"""Where samples are held while a model is trained; ``auto`` holds them in memory when they fit its budget."""


def encode_range(samples: SampleFolder, dates: DateRange, collection: EmbeddingCollection) -> EncodedSamples:
    """Return a date range's samples encoded, piece by piece: beside them only one piece is ever in memory."""
    pieces = samples.pieces(dates.since, dates.until)
    sequences = [feature.name for feature in samples.plan.of_kind("sequence")]
    events = {name: sum(piece.events[name] for piece in pieces) for name in sequences}
    encoder = SampleEncoder(collection, sum(piece.rows for piece in pieces), events)
    start = 0
    for part in samples.read_parts(dates.since, dates.until):
        encoder.put(part, np.arange(start, start + len(part)))
        start += len(part)
    return encoder.finish()


def open_source(
    samples: SampleFolder,
    dates: DateRange,
    collection: EmbeddingCollection,
    batch_size: int,
    seed: int,
    *,
    shuffle: bool = True,
    placement: Placement = "auto",
    memory_bytes: int | None = None,
    ahead: int = 2,
) -> BatchSource:
    """Return a source of a date range's samples, whose keys the collection has been given.

    ``memory_bytes`` is the budget for samples: half of the machine's memory for None. Raises InputError when they do
    not fit it and ``placement`` is ``memory``, before anything is read, or when not even batches fit.
    """
    budget = machine_memory() // 2 if memory_bytes is None else memory_bytes
    needed = EncodedSize(samples.plan, len(samples.tasks)).total(samples.pieces(dates.since, dates.until))
    if placement == "stream" or (placement == "auto" and needed > budget):
        return StreamSource(
            samples, dates, collection, batch_size, seed, memory_bytes=budget, shuffle=shuffle, ahead=ahead
        )
    if needed > budget:
        raise InputError(
            f"The samples of {dates} take {bytes_text(needed)} in memory, where {bytes_text(budget)} are allowed.",
            "Let them be streamed (placement 'auto' or 'stream'), raise memory_bytes or train on fewer days.",
        )
    return MemorySource(encode_range(samples, dates, collection), batch_size, seed, shuffle=shuffle, ahead=ahead)
