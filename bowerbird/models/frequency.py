"""How often each key comes in a stream of batches, estimated in fixed memory (Yi et al., 2019, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StreamingFrequency(nn.Module):
    """The probability that a key is in a random batch: one over the mean number of steps between its batches.

    Keys share ``buckets``; where two meet, both seem as frequent as they are together. The mean moves towards each new
    gap by the share ``rate``; it begins at the number of steps until the key's first batch. Its state, part of the
    model's buffers, is 12 bytes per bucket.
    """

    def __init__(self, buckets: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("latest", torch.zeros(buckets, dtype=torch.int64))
        self.register_buffer("gap", torch.zeros(buckets))
        self.step: Tensor
        self.latest: Tensor
        self.gap: Tensor

    @torch.no_grad()
    def observe(self, keys: Tensor) -> None:
        """Take a batch's keys, int64 [rows]; how often one comes within the batch does not matter."""
        self.step += 1
        buckets = torch.unique(self._buckets(keys))
        latest, gap = self.latest[buckets], self.gap[buckets]
        new = (self.step - latest).to(gap.dtype)
        self.gap[buckets] = torch.where(latest == 0, new, gap + self.rate * (new - gap))
        self.latest[buckets] = self.step

    @torch.no_grad()
    def probability(self, keys: Tensor) -> Tensor:
        """Return float32 [rows], in (0, 1], for keys that have been observed."""
        return 1 / self.gap[self._buckets(keys)].clamp(min=1.0)

    def _buckets(self, keys: Tensor) -> Tensor:
        mixed = keys ^ (keys >> 32)
        return mixed.remainder(len(self.gap))
