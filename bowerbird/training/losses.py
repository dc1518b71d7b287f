"""The loss of a batch: binary cross entropy, weighted, over mature labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.models.ranker import Targets


def task_losses(logits: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    """Return each task's weighted mean cross entropy; logits are [rows, members].

    Immature labels take no part. Each member of an ensemble has its own loss; their mean counts.
    """
    losses = {}
    for task, values in logits.items():
        label = targets.labels[task]
        mature = ~torch.isnan(label)
        target = torch.where(mature, label, 0.0).unsqueeze(1).expand_as(values)
        entropy = functional.binary_cross_entropy_with_logits(values.float(), target, reduction="none")
        mass = torch.where(mature, targets.weight, 0.0)
        losses[task] = (entropy.mean(dim=1) * mass).sum() / mass.sum().clamp(min=1e-12)
    return losses


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
        total = torch.zeros(())
        for task, loss in losses.items():
            weighted = self.factors.get(task, 1.0) * loss
            if task in self.log_variances:
                uncertainty = self.log_variances[task]
                weighted = torch.exp(-uncertainty) * weighted + 0.5 * uncertainty
            total = total + weighted
        return total
