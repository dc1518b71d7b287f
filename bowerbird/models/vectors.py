"""How models read vectors made elsewhere: brought to one length, then through a linear map of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.trained_linear import Linear


class VectorEmbedding(nn.Module):
    """Each vector as one more field: ``forward`` returns float32 [rows, vectors, dimension].

    A vector is scaled to unit length first, so that it does not matter how its maker scaled it; its length is lost. An
    unknown one (zeros) becomes a learned field of its own.
    """

    def __init__(self, inputs: Inputs, dimension: int, spread: float = 1.0) -> None:
        super().__init__()
        self.names = tuple(item.name for item in inputs.vectors)
        self.maps = nn.ModuleList(Linear(item.width, dimension, bias=False) for item in inputs.vectors)
        for module in self.maps:
            nn.init.normal_(module.weight, std=spread)  # type: ignore[arg-type]  # a unit vector keeps its variance
        self.known = nn.Parameter(torch.zeros(len(self.names), dimension))
        self.unknown = nn.Parameter(torch.zeros(len(self.names), dimension))
        self.width = len(self.names) * dimension

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, vectors, dimension]."""
        fields = []
        for position, (name, module) in enumerate(zip(self.names, self.maps, strict=True)):
            vector = features[name]
            known = vector.abs().amax(dim=-1, keepdim=True) > 0
            mapped = module(functional.normalize(vector, dim=-1)) + self.known[position]
            fields.append(torch.where(known, mapped, self.unknown[position]))
        return torch.stack(fields, dim=1)


def vector_embeddings(inputs: Inputs, dimension: int, spread: float = 1.0) -> nn.ModuleList:
    """Return the vectors' embedding, or nothing where there is no vector."""
    return nn.ModuleList([VectorEmbedding(inputs, dimension, spread)] if inputs.vectors else [])
