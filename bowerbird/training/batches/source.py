"""Where a trainer's batches come from."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Protocol

import numpy as np

from bowerbird.models.ranker import NumberColumns
from bowerbird.prefetch import prefetched
from bowerbird.training.batches.encoded import Batch, EncodedSamples, Indices, base_rates


class BatchSource(Protocol):
    """Batches of training samples with their event times.

    In each epoch every sample comes exactly once, in batches of ``batch_size`` rows but for the last. The same
    ``epoch`` always gives the same batches, and ``batches(epoch, first)`` gives those of ``batches(epoch, 0)`` from
    number ``first`` on, so that a run that was interrupted goes on bit for bit.

    Samples from elsewhere fit too: a live stream is one long epoch whose batches come in the order of event time.
    Its ``batches(0, first)`` goes on after the first ``first`` batches (by its position in the log), its length is
    that of a window or of the epoch planned, and ``number_columns`` and ``base_rates`` are those of the samples that
    the model began with. tests/training/test_source.py holds the rules as a suite to run on a source of one's own.
    """

    @property
    def batch_size(self) -> int:
        """Rows of every batch but an epoch's last."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""

    def __len__(self) -> int:
        """Return the rows of one epoch."""

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from number ``first`` on.

        A generator that is not used up must be closed (``contextlib.closing``), since threads and files may stand
        behind it. Raises CorruptionError or InputError for samples that cannot be read.
        """

    def number_columns(self) -> NumberColumns:
        """Return values of every number tensor by name, thinned evenly: what a model fits its transforms to."""

    def base_rates(self) -> dict[str, float]:
        """Return each label's weighted share of positives among mature samples; one half without any."""


class MemorySource:
    """Batches of samples that lie in memory: in an order drawn from ``seed`` and epoch, or in that of time.

    The shuffle is a permutation of all samples. ``ahead`` batches with sequences are gathered by a thread before they
    are needed; others are a few copies of rows, made where they are used.
    """

    def __init__(
        self, samples: EncodedSamples, batch_size: int, seed: int, *, shuffle: bool = True, ahead: int = 0
    ) -> None:
        self.samples = samples
        self.seed = seed
        self.shuffle = shuffle
        self._batch_size = batch_size
        self._ahead = ahead

    @property
    def batch_size(self) -> int:
        """Rows of every batch but an epoch's last."""
        return self._batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.samples) / self._batch_size)

    def __len__(self) -> int:
        """Return the rows of one epoch."""
        return len(self.samples)

    def order(self, epoch: int) -> Indices:
        """Return the samples' places in the order of an epoch, int64 [rows]."""
        if not self.shuffle:
            return np.argsort(self.samples.time, kind="stable")
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from number ``first`` on."""
        ahead = self._ahead if self.samples.sequences else 0
        return prefetched(self.samples.batches(self.order(epoch), self._batch_size, first), ahead)

    def number_columns(self) -> NumberColumns:
        """Return values of every number tensor by name, evenly thinned."""
        return self.samples.number_columns()

    def base_rates(self) -> dict[str, float]:
        """Return each label's weighted share of positives among mature samples."""
        return base_rates(self.samples)
