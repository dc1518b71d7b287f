"""DCN-V2: explicit crosses beside an MLP (Wang et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, CrossNetwork, TaskHeads
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task


class DCNv2(Ranker):
    """The parallel form: a cross network and an MLP over the flat inputs, joined in the heads."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        crosses: int = 3
        rank: int | None = 64
        """Rank of the crosses' matrices; None for full ones."""
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        batch_norm: bool = False

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> DCNv2:
            """Return a freshly initialised model."""
            return DCNv2(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
        self.crosses = CrossNetwork(self.flat.width, config.crosses, config.rank)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.heads = TaskHeads(self.flat.width + self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        crossed, flat = self.crosses.with_input(self.flat(features))
        logits: dict[str, Tensor] = self.heads(crossed, self.mlp(flat))
        return logits
