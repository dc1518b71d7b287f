"""BST: a transformer over the behaviour sequence and the candidate (Chen et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.behaviour import BehaviourTransformer
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import History, MeanHistory, shared_fields
from bowerbird.models.task import Task


class BST(Ranker):
    """Each sequence that shares a vocabulary with the candidate goes through a transformer with it, then an MLP."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        layers: int = 1
        """Transformer layers; the paper found one best."""
        width: int = 64
        """Width of an event in the transformer."""
        heads: int = 4
        pooling: Literal["target", "mean"] = "target"
        """What the MLP sees of the transformer: the candidate's place, or the mean of all places."""
        bins: int = 16
        """Bins of the ages' piecewise-linear encoding."""
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        """Of the transformer and of the MLP."""
        batch_norm: bool = False

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> BST:
            """Return a freshly initialised model; raises InputError where heads do not divide ``width``."""
            return BST(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        histories: list[History] = []
        for sequence in inputs.sequences:
            pairs = shared_fields(inputs, sequence)
            if pairs:
                sizes = (config.width, config.heads, config.layers, config.bins)
                histories.append(BehaviourTransformer(sequence, pairs, *sizes, config.dropout, config.pooling))
            else:
                histories.append(MeanHistory(sequence))
        self.flat = FlatInputs(inputs, histories, config.dimension)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.heads = TaskHeads(self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        logits: dict[str, Tensor] = self.heads(self.mlp(self.flat(features)))
        return logits
