"""The loss of a batch: binary cross entropy, weighted, over mature labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.models.ranker import Targets


def task_losses(logits: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    """Return each task's weighted mean cross entropy; logits are [rows, members].

    Immature labels take no part. Each member of an ensemble has its own loss; their mean counts.
    """
    losses: dict[str, Tensor] = {}
    for task, values in logits.items():
        losses[task] = _Entropy.apply(values, targets.labels[task], targets.weight)  # type: ignore[no-untyped-call]
    return losses


class _Entropy(torch.autograd.Function):
    """The weighted mean cross entropy of logits x [rows, members] and labels y: softplus(-x) + (1 - y) x, in float32.

    Its gradient, σ(x) - y, is made beside it.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        x, label, weight = (each.detach().float().contiguous() for each in (logits, label, weight))
        gradient = torch.empty_like(x)
        loss = _native.cross_entropy(x, label, weight, gradient, torch.get_num_threads())
        ctx.save_for_backward(gradient.to(logits.dtype))
        return x.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * gradient, None, None


class TaskWeighting(nn.Module):
    """Adds the tasks' losses up, with fixed factors and, where asked for, learned ones.

    A learned factor is exp(-s), with s = log σ² of the task's uncertainty and s/2 added to the loss (Kendall et al.,
    2018): a task whose labels are noisier weighs less.
    """

    def __init__(self, tasks: Iterable[str], factors: Mapping[str, float], learned: bool) -> None:
        super().__init__()
        self.factors = dict(factors)
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks if learned})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss."""
        weighted = [self._weighted(task, loss) for task, loss in losses.items()]
        total: Tensor = reduce(torch.add, weighted) if weighted else torch.zeros(())
        return total

    def _weighted(self, task: str, loss: Tensor) -> Tensor:
        factor = self.factors.get(task, 1.0)
        weighted: Tensor = loss if factor == 1.0 else factor * loss
        if task not in self.log_variances:
            return weighted
        uncertainty: Tensor = self.log_variances[task]
        return torch.exp(-uncertainty) * weighted + 0.5 * uncertainty
