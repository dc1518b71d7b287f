"""Mixtures of experts: MLPs over one vector, and gates that mix them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.errors import InputError
from bowerbird.models.layers import MLP
from bowerbird.models.trained_linear import Linear


class Experts(nn.Module):
    """Several MLPs over one vector: [rows, width] → [rows, experts, last size]."""

    def __init__(self, count: int, width: int, sizes: tuple[int, ...], dropout: float, batch_norm: bool) -> None:
        super().__init__()
        if count < 1 or not sizes:
            raise InputError(f"{count} experts with layers {list(sizes)} are nothing to mix.", "Set at least one.")
        self.experts = nn.ModuleList(MLP(width, sizes, dropout, batch_norm) for _ in range(count))
        self.count = count
        self.width = sizes[-1]

    def forward(self, flat: Tensor) -> Tensor:
        """Return [rows, experts, last size]."""
        return torch.stack([expert(flat) for expert in self.experts], dim=1)


class Gate(nn.Module):
    """A softmax over experts of a linear map of a vector; ``forward`` returns the experts' mean by its weights."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.linear = Linear(width, experts, bias=False)

    def weights(self, flat: Tensor) -> Tensor:
        """Return [rows, experts], which sum to one."""
        return torch.softmax(self.linear(flat), dim=-1)

    def forward(self, flat: Tensor, experts: Tensor) -> Tensor:
        """Return [rows, size] of experts [rows, experts, size]."""
        return torch.einsum("re,red->rd", self.weights(flat), experts)
