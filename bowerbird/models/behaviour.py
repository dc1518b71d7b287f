"""A sequence and the candidate through a transformer (BST, Chen et al., 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import CategoryInput, SequenceInput
from bowerbird.models.field_attention import check_heads
from bowerbird.models.layers import masked_mean
from bowerbird.models.numbers import PiecewiseNumbers, StandardNumbers
from bowerbird.models.sequences import History
from bowerbird.models.trained_linear import Linear

Pooling = Literal["target", "mean"]


class BehaviourTransformer(History):
    """Events, newest first, and the candidate behind them attend to each other: ``forward`` returns [rows, width].

    An event is a linear map of its embedded fields, its numbers and its age in bins (the paper's position is the time
    between event and exposure, in bins too), plus a vector of its place. The candidate is a linear map of its
    embeddings of the vocabularies that it shares with the sequence. Places of no event are attended by none.
    """

    def __init__(
        self,
        sequence: SequenceInput,
        pairs: tuple[tuple[CategoryInput, CategoryInput], ...],
        width: int,
        heads: int,
        layers: int,
        bins: int,
        dropout: float,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        self.mask = sequence.mask
        self.fields = tuple(item.name for item in sequence.categories)
        self.candidate = tuple(item.name for item, _ in pairs)
        self.ages = PiecewiseNumbers((sequence.age,), bins)
        names = tuple(item.name for item in sequence.numbers)
        self.numbers = nn.ModuleList([StandardNumbers(names)] if names else [])
        event = sum(item.dimension for item in sequence.categories) + self.ages.width + 2 * len(names)
        self.of_event = Linear(event, width)
        self.of_candidate = Linear(sum(item.dimension for item, _ in pairs), width)
        self.places = nn.Parameter(0.02 * torch.randn(sequence.length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(layers))
        self.pooling = pooling
        self.width = width

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, width]."""
        parts = [features[name] for name in self.fields]
        parts.append(self.ages(features).flatten(2))
        parts += [module(features) for module in self.numbers]
        events = self.of_event(torch.cat(parts, dim=-1)) + self.places
        candidate = self.of_candidate(torch.cat([features[name] for name in self.candidate], dim=-1)).unsqueeze(1)
        rows = candidate.shape[0]
        places = self.dropout(torch.cat([events.expand(rows, -1, -1), candidate], dim=1))
        mask = functional.pad(features[self.mask].expand(rows, -1), (0, 1), value=True)
        last = len(self.layers) - 1
        for depth, layer in enumerate(self.layers):
            only_target = depth == last and self.pooling == "target"
            places = layer(places, mask, places[:, -1:] if only_target else places)
        return places[:, -1] if self.pooling == "target" else masked_mean(places, mask)


class TransformerLayer(nn.Module):
    """Multi-head attention and a feed-forward layer, each with dropout, residual and layer norm after it.

    ``forward`` takes places [rows, length, width], their mask [rows, length] (true where there is something) and the
    places to answer for, [rows, queries, width], and returns those.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_query = Linear(width, width)
        self.to_key = Linear(width, width)
        self.to_value = Linear(width, width)
        self.to_output = Linear(width, width)
        self.first = Linear(width, width)
        self.second = Linear(width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, places: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
        """Return [rows, queries, width]."""
        hidden = self.norms[0](queries + self.dropout(self.attend(places, mask, queries)))
        fed = self.second(self.dropout(functional.leaky_relu(self.first(hidden))))
        result: Tensor = self.norms[1](hidden + self.dropout(fed))
        return result

    def attend(self, places: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
        """Return multi-head attention of ``queries`` over ``places`` (Vaswani et al., 2017), [rows, queries, width]."""
        query = torch.unflatten(self.to_query(queries), -1, (self.heads, -1)).transpose(1, 2)
        key = torch.unflatten(self.to_key(places), -1, (self.heads, -1)).transpose(1, 2)
        value = torch.unflatten(self.to_value(places), -1, (self.heads, -1)).transpose(1, 2)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mixed = torch.softmax(scores, dim=-1) @ value
        output: Tensor = self.to_output(mixed.transpose(1, 2).flatten(2))
        return output
