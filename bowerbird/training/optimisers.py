"""Optimisers over tables and dense parameters, and the learning rate's course."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bowerbird.training.adam import Adam
from bowerbird.training.config import TrainerConfig
from bowerbird.training.network import Network


def build_optimiser(network: Network, config: TrainerConfig) -> Optimizer:
    """Return the optimiser of dense parameters and exact tables; native tables have their own."""
    decayed, plain = _by_decay(network)
    groups = [
        {"params": network.collection.exact_parameters, "weight_decay": config.embedding_decay},
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    return _optimiser(used, config)


def _optimiser(groups: list[dict[str, Any]], config: TrainerConfig) -> Optimizer:
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    values = [value for group in groups for value in group["params"]]
    if config.optimiser == "adam":
        return Adam(values, config.learning_rate)
    if config.optimiser == "adagrad":
        return torch.optim.Adagrad(values, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(values, lr=config.learning_rate, fused=True)


def add_l2(network: Network, config: TrainerConfig) -> None:
    """Add λW to the gradients: the loss's part λ/2 ‖W‖² of whole tables and of the other parameters.

    A row that no sample of the batch has moves, too, which is what published accuracies rest on.
    """
    if config.table_l2:
        _add_l2(network.collection.exact_parameters, config.table_l2)
    if config.dense_l2:
        _add_l2(list(network.model.parameters()), config.dense_l2)


def _add_l2(parameters: list[nn.Parameter], factor: float) -> None:
    with torch.no_grad():
        for value in parameters:
            if value.grad is None:
                value.grad = factor * value
            else:
                value.grad.add_(value, alpha=factor)


def _by_decay(network: Network) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return matrices, which are decayed, and biases and scales, which are not."""
    values = [*network.model.parameters(), *network.weighting.parameters()]
    return [value for value in values if value.dim() > 1], [value for value in values if value.dim() <= 1]


def learning_rate_factor(config: TrainerConfig, step: int, steps: int) -> float:
    """Return the factor on the learning rate at a step: a linear warm-up, then a cosine to a twentieth.

    (Loshchilov and Hutter, 2017.) Other schedules keep it at 1 after the warm-up.
    """
    rising = min(config.warmup_steps, steps // 4)
    warm = min(1.0, (step + 1) / rising) if rising else 1.0
    if config.schedule != "cosine":
        return warm
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1))))


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set every group's learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
