"""Logistic regression: one weight per key, number and sequence field."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.first_order import FirstOrder
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import TaskHeads, split_tasks
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task


class LogisticRegression(Ranker):
    """A linear function of the embedded inputs; with width 1 a key's embedding is its weight, times its field's."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Nothing to choose but the width, and whether fields have weights beside their keys'."""

        dimension: int = 1
        """Width of embeddings; one weight per key is enough for one task."""
        own_weights: bool = False
        """Whether a row's last columns, one per task, are the weights themselves: the textbook's model."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> LogisticRegression:
            """Return a freshly initialised model."""
            return LogisticRegression(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.own_weights = config.own_weights
        if config.own_weights:
            self.first_order = FirstOrder(inputs, tasks, bias=True)
        else:
            self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
            self.heads = TaskHeads(self.flat.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        if self.own_weights:
            return split_tasks(self.first_order(features), tuple(task.name for task in self.tasks))
        logits: dict[str, Tensor] = self.heads(self.flat(features))
        return logits
