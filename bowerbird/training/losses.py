"""The loss of a batch: binary cross entropy, weighted, over mature labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.training.encoded import Batch


def batch_loss(logits: Mapping[str, Tensor], batch: Batch, task_weights: Mapping[str, float]) -> Tensor:
    """Return the sum over tasks of the weighted mean cross entropy; logits are [rows, members].

    Immature labels take no part. Each member of an ensemble has its own loss; their mean counts.
    """
    weight = torch.from_numpy(batch.weight)
    total = torch.zeros(())
    for task, values in logits.items():
        label = torch.from_numpy(batch.labels[task])
        mature = ~torch.isnan(label)
        target = torch.where(mature, label, 0.0).unsqueeze(1).expand_as(values)
        entropy = functional.binary_cross_entropy_with_logits(values.float(), target, reduction="none")
        mass = torch.where(mature, weight, 0.0)
        mean = (entropy.mean(dim=1) * mass).sum() / mass.sum().clamp(min=1e-12)
        total = total + task_weights.get(task, 1.0) * mean
    return total
