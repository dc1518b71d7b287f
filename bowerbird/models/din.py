"""DIN: the user's history weighted by the candidate (Zhou et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import Pooling, attentive_histories
from bowerbird.models.task import Task


class DIN(Ranker):
    """Target attention over each sequence that shares a vocabulary with the candidate, then an MLP."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        attention: tuple[int, ...] = (64, 32)
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        batch_norm: bool = False
        pooling: Pooling = "scaled_sum"
        """Of weighted events; the paper's is ``sum``."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> DIN:
            """Return a freshly initialised model."""
            return DIN(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention, config.pooling), config.dimension)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.heads = TaskHeads(self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        logits: dict[str, Tensor] = self.heads(self.mlp(self.flat(features)))
        return logits
