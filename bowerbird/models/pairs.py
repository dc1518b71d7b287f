"""Products of pairs of fields as logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.models.layers import factorisation_pairs


class PairLogits(nn.Module):
    """The sum over pairs of fields of their inner products (Rendle, 2010): [rows, fields, d] → [rows, tasks].

    For one task there is nothing to learn here. Several tasks share the factors, so each weighs the d products by
    weights of its own, which begin at one.
    """

    def __init__(self, dimension: int, tasks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(tasks, dimension)) if tasks > 1 else None

    def forward(self, fields: Tensor) -> Tensor:
        """Return [rows, tasks]."""
        products = factorisation_pairs(fields)
        if self.weight is None:
            return products.sum(dim=1, keepdim=True)
        return products @ self.weight.T
