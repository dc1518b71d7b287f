"""Batches of samples that do not fit in memory: read piece by piece, mixed in windows, encoded on the way."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.models.ranker import NumberColumns
from bowerbird.prefetch import prefetched
from bowerbird.training.batches.dataset import Piece, SampleFolder
from bowerbird.training.batches.encoded import Batch, EncodedSamples, Indices, RateCounter, SampleEncoder
from bowerbird.training.batches.encoded_size import EncodedSize, bytes_text
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.windows import ShuffledWindows, TimeWindows, Windows

_WINDOW_SHARE = 6
"""The budget in windows: one in use, one being filled, and twice as much for what decoding takes."""
_PIECES_PER_WINDOW = 8
_FITTED_VALUES = 200_000
_FITTED_PIECES = 64


class StreamSource:
    """Batches read from sample files in bounded memory, shuffled in two levels or in the order of time.

    Row groups (larger ones cut, so that at least eight fit in a window) come in random order; as many as
    ``memory_bytes`` / 6 holds form a window, whose rows are shuffled together. A thread fills the next window while
    the present one is used, another gathers ``ahead`` batches. What is beside the samples (tables, optimisers) is not
    part of ``memory_bytes``. Keys are looked up in the collection's indexes by those threads, which therefore must
    not change while an epoch runs. Raises InputError when ``memory_bytes`` cannot hold the batches.
    """

    def __init__(
        self,
        samples: SampleFolder,
        dates: DateRange,
        collection: EmbeddingCollection,
        batch_size: int,
        seed: int,
        *,
        memory_bytes: int,
        shuffle: bool = True,
        ahead: int = 2,
    ) -> None:
        self.shuffle = shuffle
        self.seed = seed
        self._samples = samples
        self._collection = collection
        self._batch_size = batch_size
        self._ahead = ahead
        self._size = EncodedSize(samples.plan, len(samples.tasks))
        self._window_bytes = memory_bytes // _WINDOW_SHARE
        whole = samples.pieces(dates.since, dates.until)
        self._rows = sum(piece.rows for piece in whole)
        self._check_budget(whole, memory_bytes)
        self._pieces = [part for piece in whole for part in piece.split(self._piece_rows(piece))]

    @property
    def batch_size(self) -> int:
        """Rows of every batch but an epoch's last."""
        return self._batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return math.ceil(self._rows / self._batch_size)

    def __len__(self) -> int:
        """Return the rows of one epoch."""
        return self._rows

    def windows(self, epoch: int) -> Windows:
        """Return the windows of an epoch."""
        if self.shuffle:
            return ShuffledWindows(self._pieces, self._size, self._window_bytes, self.seed, epoch)
        return self._time_windows

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from number ``first`` on; earlier windows are not read."""
        return prefetched(self._batches(self.windows(epoch), first), self._ahead)

    def number_columns(self) -> NumberColumns:
        """Return values of every number tensor by name, from pieces that are spread evenly over the range."""
        places = np.linspace(0, len(self._pieces) - 1, min(_FITTED_PIECES, len(self._pieces))).astype(int)
        limit = _FITTED_VALUES // max(1, len(places)) + 1
        parts = [self._piece(self._pieces[place]).number_columns(limit) for place in places]
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}

    def base_rates(self) -> dict[str, float]:
        """Return each label's weighted share of positives among mature samples; reads labels and weights only."""
        rates = RateCounter()
        for piece in self._pieces:
            rates.add(*self._samples.read_labels(piece))
        return rates.rates()

    @cached_property
    def _time_windows(self) -> TimeWindows:
        return TimeWindows(self._pieces, self._size, self._window_bytes, self._samples.read_times)

    def _batches(self, windows: Windows, first: int) -> Iterator[Batch]:
        ends = np.cumsum(windows.rows)
        start = first * self._batch_size
        window = int(np.searchsorted(ends, start, side="right"))
        position = start - int(ends[window - 1]) if window else start
        mixed = prefetched(self._mixed(windows, window, position), 1)
        try:
            for samples in mixed:
                for begin in range(0, len(samples), self._batch_size):
                    yield _alone(samples.batch(np.arange(begin, min(begin + self._batch_size, len(samples)))))
                del samples
        finally:
            mixed.close()

    def _mixed(self, windows: Windows, window: int, position: int) -> Iterator[EncodedSamples]:
        """Yield windows from row ``position`` of ``window`` on, cut so that each but the last is whole batches."""
        rest: EncodedSamples | None = None
        for number in range(window, len(windows.rows)):
            samples = self._window(windows, number, rest)
            pa.default_memory_pool().release_unused()
            start, position = position, 0
            stop = len(samples)
            if number + 1 < len(windows.rows):
                stop -= (len(samples) - start) % self._batch_size
            rest = self._part(samples, np.arange(stop, len(samples)))
            if start < stop:
                yield samples if (start, stop) == (0, len(samples)) else samples.span(start, stop)
            del samples

    def _window(self, windows: Windows, number: int, rest: EncodedSamples | None) -> EncodedSamples:
        """Return the rows of ``rest`` followed by those of a window."""
        kept = len(rest) if rest is not None else 0
        encoder = self._encoder(windows.pieces(number), windows.rows[number], rest)
        if rest is not None and kept:
            encoder.copy(rest, np.arange(kept), np.arange(kept))
        for fill in windows.fills(number):
            encoder.put(self._samples.read_piece(fill.piece), fill.places + kept, fill.keep)
        return encoder.finish()

    def _encoder(self, pieces: list[Piece], rows: int, rest: EncodedSamples | None) -> SampleEncoder:
        events = {name: sum(piece.events[name] for piece in pieces) for name in self._size.event}
        if rest is not None:
            rows += len(rest)
            events = {name: count + rest.sequences[name].events for name, count in events.items()}
        return SampleEncoder(self._collection, rows, events)

    def _part(self, samples: EncodedSamples, rows: Indices) -> EncodedSamples | None:
        if not len(rows):
            return None
        encoder = SampleEncoder(self._collection, len(rows), samples.event_counts(rows))
        encoder.copy(samples, np.arange(len(rows)), rows)
        return encoder.finish()

    def _piece(self, piece: Piece) -> EncodedSamples:
        encoder = self._encoder([piece], piece.rows, None)
        encoder.put(self._samples.read_piece(piece))
        return encoder.finish()

    def _piece_rows(self, piece: Piece) -> int:
        row = max(1, self._size.of(piece) // piece.rows)
        return max(1, self._window_bytes // _PIECES_PER_WINDOW // row)

    def _check_budget(self, pieces: list[Piece], memory_bytes: int) -> None:
        largest = max((self._size.of(piece) / piece.rows for piece in pieces), default=0.0)
        needed = int(_WINDOW_SHARE * (self._batch_size * largest) * 2)
        if needed > memory_bytes:
            raise InputError(
                f"memory_bytes is {bytes_text(memory_bytes)}, but batches of {self._batch_size:,} samples with "
                f"{bytes_text(largest)} each need {bytes_text(needed)}.",
                "Raise memory_bytes or lower batch_size.",
            )


def _alone(batch: Batch) -> Batch:
    """Return a batch that keeps no window in memory."""
    marks = batch.marks
    return replace(batch, read_marks=lambda: marks)
