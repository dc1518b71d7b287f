"""Models of the zoo over the synthetic plan, ready for a test."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bowerbird.embedding import EmbeddingCollection
from bowerbird.models import Ranker, Task, model_config
from bowerbird.models.ranker import NumberColumns, Targets
from bowerbird.plan.spec import Plan
from bowerbird.training.losses import task_losses
from tests.training.synthetic import TASKS, World
from tests.training.vectors import plan_with_vector, vectors


def built(
    name: str, plan: Plan | None = None, tasks: tuple[Task, ...] = TASKS, **options: object
) -> tuple[EmbeddingCollection, Ranker]:
    """Return empty tables and a model of the zoo in evaluation mode, its numbers and rates fitted, always alike."""
    torch.manual_seed(1)
    config = model_config(name, options)
    tables = EmbeddingCollection.Config(dimension=config.dimension, minimum_count=1)
    collection = tables.build(plan or plan_with_vector())
    model = config.build(collection.inputs, tasks)
    model.fit_numbers(number_columns())
    model.fit_rates({"click": 0.4, "long": 0.1})
    return collection, model.eval()


def number_columns() -> NumberColumns:
    """Return the number tensors' values in some synthetic exposures, by name."""
    block, *_ = World().draw(500)
    columns = dict(block.numbers)
    for name, sequence in block.sequences.items():
        columns[f"{name}.age"] = sequence.age
        columns |= {f"{name}.{field}": values for field, values in sequence.fields.items() if values.dtype.kind == "f"}
    return columns


def training_loss(collection: EmbeddingCollection, model: Ranker, rows: int) -> Tensor:
    """Return the loss of a training step over ``rows`` synthetic exposures: the tasks' and the model's own."""
    block, labels, _, item = World().draw(rows)
    block.vectors["embedding"] = vectors(rows)
    targets = Targets(
        {task.name: torch.from_numpy(labels[task.name]) for task in model.tasks},
        torch.ones(rows),
        lambda: torch.from_numpy(item.view(np.int64)),
    )
    done = model.training_pass(collection(block))
    losses = task_losses(done.logits, targets)
    return torch.stack(list(losses.values())).sum() + model.auxiliary_loss(done, targets)
