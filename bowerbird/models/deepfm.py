"""DeepFM: a factorisation machine beside an MLP (Guo et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads, factorisation_pairs, split_tasks
from bowerbird.models.numbers import NumberEmbedding
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task
from bowerbird.models.vectors import vector_embeddings


class DeepFM(Ranker):
    """First-order terms, pairwise products of field vectors, and an MLP over the same fields.

    First-order weights are a linear map of the embeddings. Fields of another width than the first
    category's, and pooled sequences, reach the products through a linear map of their own.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> DeepFM:
            """Return a freshly initialised model."""
            return DeepFM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.names = tuple(task.name for task in tasks)
        self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
        self.fields = FieldVectors(inputs, config.dimension, config.bins)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout)
        self.first_order = nn.Linear(self.flat.width, len(tasks), bias=False)
        self.pairs = nn.Linear(config.dimension, len(tasks), bias=False)
        nn.init.ones_(self.pairs.weight)
        self.heads = TaskHeads(self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        flat = self.flat(features)
        wide = self.first_order(flat) + self.pairs(factorisation_pairs(self.fields(features)))
        deep = self.heads(self.mlp(flat))
        return {name: deep[name] + logit for name, logit in split_tasks(wide, self.names).items()}


class FieldVectors(nn.Module):
    """Every input as a vector of one width: float32 [rows, fields, dimension]."""

    def __init__(self, inputs: Inputs, dimension: int, bins: int) -> None:
        super().__init__()
        self.categories = tuple(item.name for item in inputs.categories)
        self.maps = nn.ModuleList(
            nn.Identity() if item.dimension == dimension else nn.Linear(item.dimension, dimension)
            for item in inputs.categories
        )
        histories = mean_histories(inputs)
        self.histories = nn.ModuleList(histories)
        self.history_maps = nn.ModuleList(nn.Linear(module.width, dimension) for module in histories)
        names = tuple(item.name for item in inputs.numbers)
        self.numbers = nn.ModuleList([NumberEmbedding(names, bins, dimension, spread=0.1)] if names else [])
        self.vectors = vector_embeddings(inputs, dimension, spread=0.1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, fields, dimension]."""
        parts = [module(features[name]).unsqueeze(1) for name, module in zip(self.categories, self.maps, strict=True)]
        parts += [module(features) for module in (*self.numbers, *self.vectors)]
        vectors = [
            module(pooled(features)).unsqueeze(1)
            for pooled, module in zip(self.histories, self.history_maps, strict=True)
        ]
        rows = (parts or vectors)[0].shape[0]
        return torch.cat([*parts, *(vector.expand(rows, 1, vector.shape[2]) for vector in vectors)], dim=1)
