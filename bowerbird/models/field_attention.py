"""Multi-head self-attention between the fields of a row (AutoInt, Song et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.errors import InputError
from bowerbird.models.trained_linear import Linear


class FieldAttention(nn.Module):
    """One layer: [rows, fields, width] → [rows, fields, attention], relu(attention + residual).

    A head's score of two fields is q·k, divided by the square root of its width if ``scaled``; a softmax over the
    fields weighs their values. Where widths differ the residual goes through a linear map.
    """

    def __init__(
        self, width: int, attention: int, heads: int, dropout: float, *, residual: bool, scaled: bool, layer_norm: bool
    ) -> None:
        super().__init__()
        check_heads(attention, heads)
        self.heads = heads
        self.scale = (attention // heads) ** -0.5 if scaled else 1.0
        self.to_query = Linear(width, attention, bias=False)
        self.to_key = Linear(width, attention, bias=False)
        self.to_value = Linear(width, attention, bias=False)
        self.dropout = nn.Dropout(dropout)
        same = nn.Identity() if width == attention else Linear(width, attention, bias=False)
        self.residual = nn.ModuleList([same] if residual else [])
        self.norm = nn.LayerNorm(attention) if layer_norm else nn.Identity()

    def forward(self, fields: Tensor) -> Tensor:
        """Return [rows, fields, attention]."""
        query, key, value = (
            torch.unflatten(linear(fields), -1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.to_query, self.to_key, self.to_value)
        )
        scores = query @ key.transpose(-1, -2) * self.scale
        mixed = self.dropout(torch.softmax(scores, dim=-1)) @ value
        hidden = mixed.transpose(1, 2).flatten(2)
        for residual in self.residual:
            hidden = hidden + residual(fields)
        return functional.relu(self.norm(hidden))


def check_heads(width: int, heads: int) -> None:
    """Raise InputError where a width cannot be divided evenly among heads."""
    if heads < 1 or width % heads:
        raise InputError(f"{heads} heads do not divide a width of {width}.", "Choose a multiple of the heads.")
