"""All inputs of a row as vectors of one width: what models of field interactions begin with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.numbers import NumberEmbedding
from bowerbird.models.sequences import mean_histories
from bowerbird.models.trained_linear import Linear
from bowerbird.models.vectors import vector_embeddings


class FieldVectors(nn.Module):
    """Every input as a vector of one width: float32 [rows, fields, dimension]; ``count`` is how many fields.

    A category of that width stands as it is; another width, and a pooled sequence, go through a linear map of their
    own, a number through its ``bins`` and a linear map.
    """

    def __init__(self, inputs: Inputs, dimension: int, bins: int) -> None:
        super().__init__()
        self.categories = tuple(item.name for item in inputs.categories)
        self.maps = nn.ModuleList(
            nn.Identity() if item.dimension == dimension else Linear(item.dimension, dimension)
            for item in inputs.categories
        )
        histories = mean_histories(inputs)
        self.histories = nn.ModuleList(histories)
        self.history_maps = nn.ModuleList(Linear(module.width, dimension) for module in histories)
        names = tuple(item.name for item in inputs.numbers)
        self.numbers = nn.ModuleList([NumberEmbedding(names, bins, dimension, spread=0.1)] if names else [])
        self.vectors = vector_embeddings(inputs, dimension, spread=0.1)
        self.count = len(inputs.categories) + len(names) + len(inputs.vectors) + len(histories)

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
