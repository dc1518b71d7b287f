"""A good plain PyTorch training loop: what somebody who knows PyTorch writes in an afternoon.

Rows are sliced from tensors in memory by a permutation, all fields share one table by offsets, so that a batch is one
lookup, matrix products are bf16 by autocast, the dense part has one fused Adam. Tables are updated where a batch
touched them (``sparse``: SparseAdam) or whole with L2 (dense gradients), whichever the caller chooses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class PlainConfig:
    """How the loop trains; ``table_l2`` is λ of (λ/2)‖W‖² over dense tables."""

    epochs: int
    batch_size: int = 4096
    learning_rate: float = 1e-3
    sparse: bool = True
    table_l2: float = 0.0
    clip_norm: float = 10.0
    bfloat16: bool = True
    seed: int = 0


@dataclass(frozen=True)
class PlainData:
    """``rows`` int64 [n, fields] are rows of the shared table; ``history`` int64 [n, length, targets] too, or 0."""

    rows: Tensor
    label: Tensor
    history: Tensor | None = None

    def batch(self, taken: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the fields, histories and labels of some samples."""
        return self.rows[taken], None if self.history is None else self.history[taken], self.label[taken]


@dataclass
class PlainResult:
    """``epoch_seconds`` of training alone, and the test rows' scores after the epoch that was best on validation."""

    epoch_seconds: list[float] = field(default_factory=list)
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


class PlainTower(nn.Sequential):
    """Linear, batch norm where asked for, ReLU and dropout for each size."""

    def __init__(self, width: int, sizes: tuple[int, ...], dropout: float, batch_norm: bool) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(width, size), *([nn.BatchNorm1d(size)] if batch_norm else []), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            width = size
        super().__init__(*layers)


class PlainModel(nn.Module):
    """A model with one ``table``; ``forward`` takes its rows by field and the history's, and returns logits [n]."""

    table: nn.Embedding


class PlainDCNv2(PlainModel):
    """The parallel DCN-V2 with full-rank crosses."""

    def __init__(self, rows: int, fields: int, dimension: int, config: PlainConfig, *, crosses: int,
                 hidden: tuple[int, ...], dropout: float) -> None:  # fmt: skip
        super().__init__()
        width = fields * dimension
        self.table = _table(rows, dimension, config)
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(crosses))
        self.tower = PlainTower(width, hidden, dropout, batch_norm=True)
        self.head = nn.Linear(width + hidden[-1], 1)
        _initialise(self)

    def forward(self, rows: Tensor, history: Tensor | None) -> Tensor:
        """Return logits [n]."""
        first = self.table(rows).flatten(1)
        crossed = first
        for cross in self.crosses:
            crossed = crossed + first * cross(crossed)
        logits: Tensor = self.head(torch.cat([crossed, self.tower(first)], dim=1)).squeeze(1)
        return logits


class PlainDIN(PlainModel):
    """DIN (Zhou et al., 2018): the ``targets``, numbers of fields, attend to the history's parallel sequences."""

    def __init__(self, rows: int, fields: int, dimension: int, config: PlainConfig, *, targets: tuple[int, ...],
                 attention: tuple[int, ...], hidden: tuple[int, ...], dropout: float) -> None:  # fmt: skip
        super().__init__()
        self.targets = list(targets)
        width = len(targets) * dimension
        self.table = _table(rows, dimension, config)
        self.attention = PlainTower(4 * width, attention, 0.0, batch_norm=False)
        self.score = nn.Linear(attention[-1], 1)
        self.tower = PlainTower(fields * dimension + width, hidden, dropout, batch_norm=False)
        self.head = nn.Linear(hidden[-1], 1)
        _initialise(self)

    def forward(self, rows: Tensor, history: Tensor | None) -> Tensor:
        """Return logits [n]."""
        assert history is not None
        fields, events = self.table(rows), self.table(history).flatten(2)
        query = fields[:, self.targets].flatten(1).unsqueeze(1).expand_as(events)
        pairs = torch.cat([query, events, query - events, query * events], dim=2)
        weights = self.score(self.attention(pairs)).squeeze(2).masked_fill(history[:, :, 0] == 0, 0.0)
        pooled = torch.einsum("nl,nld->nd", weights, events.to(weights.dtype))
        logits: Tensor = self.head(self.tower(torch.cat([fields.flatten(1), pooled], dim=1))).squeeze(1)
        return logits


def _table(rows: int, dimension: int, config: PlainConfig) -> nn.Embedding:
    table = nn.Embedding(rows, dimension, sparse=config.sparse)
    nn.init.normal_(table.weight, std=1e-4)
    return table


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)


def train_plain(
    model: PlainModel, train: PlainData, validation: PlainData, test: PlainData, config: PlainConfig,
    quality: Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], float],
) -> PlainResult:  # fmt: skip
    """Train a number of epochs; ``quality`` of labels and scores says which was best on validation."""
    torch.manual_seed(config.seed)
    table = model.table.weight
    dense = [value for value in model.parameters() if value is not table]
    optimisers: list[torch.optim.Optimizer]
    if config.sparse:
        optimisers = [torch.optim.Adam(dense, lr=config.learning_rate, fused=True)]
        optimisers.append(torch.optim.SparseAdam([table], lr=config.learning_rate))
    else:
        optimisers = [torch.optim.Adam([table, *dense], lr=config.learning_rate, fused=True)]
    result, best = PlainResult(), -math.inf
    for _ in range(config.epochs):
        model.train()
        started = time.perf_counter()
        order = torch.randperm(len(train.label))
        for start in range(0, len(order), config.batch_size):
            rows, history, label = train.batch(order[start : start + config.batch_size])
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                logits = model(rows, history)
            loss = functional.binary_cross_entropy_with_logits(logits.float(), label)
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if config.table_l2 and table.grad is not None:
                table.grad.add_(table.detach(), alpha=config.table_l2)
            torch.nn.utils.clip_grad_norm_(dense if config.sparse else model.parameters(), config.clip_norm)
            for optimiser in optimisers:
                optimiser.step()
        result.epoch_seconds.append(time.perf_counter() - started)
        reached = quality(validation.label.numpy(), _scores(model, validation, config))
        if reached > best:
            best, result.scores = reached, _scores(model, test, config)
    return result


def _scores(model: PlainModel, data: PlainData, config: PlainConfig) -> npt.NDArray[np.float32]:
    model.eval()
    parts = []
    with torch.inference_mode():
        for taken in torch.split(torch.arange(len(data.label)), config.batch_size):
            rows, history, _ = data.batch(taken)
            parts.append(torch.sigmoid(model(rows, history)))
    scores: npt.NDArray[np.float32] = torch.cat(parts).float().numpy()
    return scores
