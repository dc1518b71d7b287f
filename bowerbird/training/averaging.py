"""An exponential average of the weights: what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bowerbird.bundles.arrays import AnyArray
from bowerbird.training.network import Network


class WeightAverage:
    """Averages every parameter with a dense gradient after each step (Polyak; warm start as in TensorFlow).

    Native tables are not averaged: their current rows are used.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self._parameters: dict[str, Tensor] = dict(network.named_parameters())
        self._average = {name: value.detach().clone() for name, value in self._parameters.items()}

    def update(self, step: int) -> None:
        """Take in the weights after step number ``step`` (from 0)."""
        if not self.decay:
            return
        decay = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            current = [value.detach() for value in self._parameters.values()]
            torch._foreach_lerp_(list(self._average.values()), current, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the network's place while the block runs."""
        if not self.decay:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def arrays(self) -> dict[str, AnyArray]:
        """Return the averages by parameter name."""
        return {name: value.numpy() for name, value in self._average.items()}

    def load_arrays(self, arrays: dict[str, AnyArray]) -> None:
        """Set the averages by parameter name."""
        for name, value in self._average.items():
            value.copy_(torch.from_numpy(arrays[name]))

    def _swap(self) -> None:
        with torch.no_grad():
            for name, value in self._parameters.items():
                kept = value.detach().clone()
                value.copy_(self._average[name])
                self._average[name].copy_(kept)
