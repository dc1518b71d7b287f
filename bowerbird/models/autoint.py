"""AutoInt+: self-attention between fields beside an MLP (Song et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.field_attention import FieldAttention
from bowerbird.models.fields import FieldVectors
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task


class AutoInt(Ranker):
    """Fields look at each other in layers of multi-head attention; an MLP reads the same inputs; one linear logit.

    With no ``hidden`` sizes there is no MLP: the paper's AutoInt rather than AutoInt+.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        layers: int = 3
        """Layers of attention."""
        attention: int = 64
        """Width of a field after attention, all heads together."""
        heads: int = 2
        residual: bool = True
        scaled: bool = True
        """Whether scores are divided by the square root of a head's width."""
        layer_norm: bool = False
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        """Of attention weights and of the MLP."""
        batch_norm: bool = False
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> AutoInt:
            """Return a freshly initialised model; raises InputError where heads do not divide ``attention``."""
            return AutoInt(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.fields = FieldVectors(inputs, config.dimension, config.bins)
        widths = [config.dimension] + [config.attention] * config.layers
        self.attention = nn.Sequential(
            *(
                FieldAttention(
                    width,
                    config.attention,
                    config.heads,
                    config.dropout,
                    residual=config.residual,
                    scaled=config.scaled,
                    layer_norm=config.layer_norm,
                )
                for width in widths[:-1]
            )
        )
        width = self.fields.count * widths[-1]
        self.deep = nn.ModuleList()
        if config.hidden:
            flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
            mlp = MLP(flat.width, config.hidden, config.dropout, config.batch_norm)
            self.deep.extend([flat, mlp])
            width += mlp.width
        self.heads = TaskHeads(width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        hidden = self.attention(self.fields(features)).flatten(1)
        if self.deep:
            flat, mlp = self.deep
            hidden = torch.cat([hidden, mlp(flat(features))], dim=-1)
        logits: dict[str, Tensor] = self.heads(hidden)
        return logits
