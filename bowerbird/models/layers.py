"""Layers that several models share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bowerbird.models import trained_cross, trained_mlp
from bowerbird.models.hidden import HiddenActivation
from bowerbird.models.ranker import RateFitted, log_odds
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class MLP(nn.Sequential):
    """Linear, then optional batch norm, ReLU and dropout, for each of ``sizes``; ``width`` is the last one's."""

    def __init__(self, width: int, sizes: tuple[int, ...], dropout: float, batch_norm: bool = False) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [Linear(width, size), HiddenActivation(size, dropout, batch_norm)]
            width = size
        super().__init__(*layers)
        self.width = width

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., width]."""
        if self.training and not torch.compiler.is_compiling():
            hidden = trained_mlp.whole_mlp(list(self), values)
            if hidden is not None:
                return hidden
        for layer in self:
            values = layer(values)
        return values


class TaskHeads(RateFitted):
    """One linear logit per task over a shared vector [rows, width], which may be given in parts, end to end."""

    def __init__(self, width: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.names = tuple(task.name for task in tasks)
        self.linear = Linear(width, len(tasks))

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the biases to the tasks' log odds."""
        with torch.no_grad():
            self.linear.bias.copy_(torch.tensor([log_odds(rates[name]) for name in self.names]))

    def forward(self, *parts: Tensor) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        return split_tasks(self.linear(*parts), self.names)


def split_tasks(logits: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the columns of [rows, tasks] by task."""
    return {name: logits[:, position] for position, name in enumerate(names)}


class CrossNetwork(nn.Module):
    """Explicit feature crosses: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (DCN-V2, Wang et al., 2021).

    With a ``rank``, W_l = U_l V_l. Takes and returns [rows, width].
    """

    def __init__(self, width: int, layers: int, rank: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_cross_layer(width, rank) for _ in range(layers))

    def forward(self, first: Tensor) -> Tensor:
        """Return [rows, width]."""
        return self.with_input(first)[0]

    def with_input(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return [rows, width], and ``first`` again, for what reads it beside the crosses.

        Gradients of what is returned meet in the native pass, which saves one over them.
        """
        if self.training and not torch.compiler.is_compiling() and trained_cross.is_trainable(first):
            return self._trained(first)
        crossed = first
        for layer in self.layers:
            crossed = first * layer(crossed) + crossed
        return crossed, first

    def _trained(self, first: Tensor) -> tuple[Tensor, Tensor]:
        found = trained_cross.whole_network(list(self.layers), first)
        if found is not None:
            return found
        state = trained_cross.started(first)
        for layer in self.layers:
            state = trained_cross.crossed(layer(state[1]), state)
        return state[0], state[2]


def _cross_layer(width: int, rank: int | None) -> nn.Module:
    if rank is None or 2 * rank >= width:
        return Linear(width, width)
    return nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))


def factorisation_pairs(fields: Tensor) -> Tensor:
    """Return the sum of all pairs' products (Rendle, 2010): [rows, fields, d] → [rows, d]."""
    total = fields.sum(dim=1)
    return 0.5 * (total * total - (fields * fields).sum(dim=1))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over events [rows, d], zero where there is none; values are [rows, length, d]."""
    weights = mask.to(values.dtype)
    total = torch.einsum("rl,rld->rd", weights, values)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
