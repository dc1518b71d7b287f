"""A native table inside a PyTorch model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.embedding.rows import Rows
from bowerbird.embedding.table import Table


class TrainedTable:
    """Lookups that autograd sees; gradients that come back wait for ``step``, which updates the rows they belong to.

    ``learning_rate`` is the table's own; without one it steps with its model's.
    """

    def __init__(self, table: Table, learning_rate: float | None = None) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self._anchor = torch.zeros((), requires_grad=True)
        self._waiting: list[tuple[Rows, Tensor]] = []

    def lookup(self, rows: Rows) -> Tensor:
        """Return the vectors of rows [...], float32 [..., dimension]."""
        vectors: Tensor = _Lookup.apply(self._anchor, self, rows)  # type: ignore[no-untyped-call]
        return vectors

    def wait(self, rows: Rows, gradient: Tensor) -> None:
        """Keep a gradient [..., dimension] of rows [...] for the next step."""
        self._waiting.append((rows, gradient))

    def step(self, learning_rate: float, factor: float) -> None:
        """Update the rows of all waiting gradients, with ``learning_rate`` or the table's own times ``factor``."""
        if not self._waiting:
            return
        width = self.table.config.dimension
        rows = np.concatenate([rows.reshape(-1) for rows, _ in self._waiting]).astype(np.int64, copy=False)
        gradients = torch.cat([gradient.reshape(-1, width).float() for _, gradient in self._waiting])
        self.forget()
        rate = learning_rate if self.learning_rate is None else self.learning_rate * factor
        self.table.update(rows, gradients.numpy(), rate)

    def forget(self) -> None:
        """Drop the gradients that wait."""
        self._waiting.clear()


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, owner: TrainedTable, rows: Rows) -> Tensor:
        ctx.owner, ctx.rows = owner, rows
        flat = np.ascontiguousarray(rows.reshape(-1), dtype=np.int64)
        return torch.from_numpy(owner.table.take(flat)).view(*rows.shape, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ctx.owner.wait(ctx.rows, gradient.detach())
        return None, None, None
