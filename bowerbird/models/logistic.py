"""Logistic regression: one weight per key, number and sequence field."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import TaskHeads
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task


class LogisticRegression(Ranker):
    """A linear function of the embedded inputs; with width 1 a key's embedding is its weight."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Nothing to choose but the width."""

        dimension: int = 1
        """Width of embeddings; one weight per key is enough for one task."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> LogisticRegression:
            """Return a freshly initialised model."""
            return LogisticRegression(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
        self.heads = TaskHeads(self.flat.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        logits: dict[str, Tensor] = self.heads(self.flat(features))
        return logits
