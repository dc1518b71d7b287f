"""What a batch is trained towards, as tensors."""

from __future__ import annotations

import numpy as np
import torch

from bowerbird.models.ranker import Targets
from bowerbird.training.batches.encoded import Batch


def targets_of(batch: Batch) -> Targets:
    """Return a batch's labels by task, weights and item keys; memory is shared."""
    labels = {task: torch.from_numpy(values) for task, values in batch.labels.items()}
    return Targets(labels, torch.from_numpy(batch.weight), lambda: torch.from_numpy(batch.marks.item.view(np.int64)))
