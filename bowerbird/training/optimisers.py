"""Optimisers over tables and dense parameters, and the learning rate's course."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from bowerbird.training.config import TrainerConfig
from bowerbird.training.network import Network


def build_optimisers(network: Network, config: TrainerConfig) -> list[Optimizer]:
    """Return AdamW for dense parameters and tables, and SparseAdam for tables with sparse gradients."""
    limit = network.collection.config.sparse_rows
    tables = [table for table in network.collection.tables if len(table) < limit]
    sparse = [table for table in network.collection.tables if len(table) >= limit]
    decayed, plain = _by_decay(network.model)
    groups = [
        {"params": tables, "weight_decay": config.embedding_decay},
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    optimisers: list[Optimizer] = [torch.optim.AdamW(used, lr=config.learning_rate, fused=True)]
    if sparse:
        optimisers.append(torch.optim.SparseAdam(sparse, lr=config.learning_rate))
    return optimisers


def _by_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return matrices, which are decayed, and biases and scales, which are not."""
    decayed = [value for value in model.parameters() if value.dim() > 1]
    plain = [value for value in model.parameters() if value.dim() <= 1]
    return decayed, plain


def learning_rate_factor(config: TrainerConfig, step: int, steps: int) -> float:
    """Return the factor on the learning rate at a step: a linear warm-up, then a cosine to a twentieth.

    (Loshchilov and Hutter, 2017.) ``schedule`` "constant" keeps it at 1 after the warm-up.
    """
    rising = min(config.warmup_steps, steps // 4)
    warm = min(1.0, (step + 1) / rising) if rising else 1.0
    if config.schedule == "constant":
        return warm
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1))))


def set_learning_rate(optimisers: list[Optimizer], rate: float) -> None:
    """Set every group's learning rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
