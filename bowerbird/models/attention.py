"""Multi-head target attention: several views of a history, each weighing events by the candidate and context."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import CategoryInput, Inputs, SequenceInput
from bowerbird.models.numbers import PiecewiseNumbers, StandardNumbers
from bowerbird.models.sequences import History
from bowerbird.models.trained_linear import Linear


def matching_categories(inputs: Inputs, sequence: SequenceInput) -> tuple[CategoryInput, ...]:
    """Return the categories, of any stage, whose vocabulary is one of the sequence's."""
    vocabularies = {field.vocabulary for field in sequence.categories}
    return tuple(item for item in inputs.categories if item.vocabulary in vocabularies)


class HeadedHistory(History):
    """A sequence through softmax attention (Vaswani et al., 2017) whose query is the candidate in its context.

    The query is made of the categories that share a vocabulary with the sequence: the candidate's own and the
    context's. A head's score of an event is q·k / sqrt(dimension) plus a bias of the event's fields and age
    alone; an empty slot of score ``nothing`` takes part, so that a head may attend to no event. Values are a
    linear map of the event plus a rectified one. ``forward`` returns [rows, heads * value].
    """

    def __init__(
        self,
        sequence: SequenceInput,
        query: tuple[CategoryInput, ...],
        heads: int,
        dimension: int,
        value: int,
        bins: int,
    ) -> None:
        super().__init__()
        self.mask = sequence.mask
        self.query = tuple(item.name for item in query)
        self.fields = tuple(item.name for item in sequence.categories)
        self.ages = PiecewiseNumbers((sequence.age,), bins)
        self.numbers = nn.ModuleList(
            [StandardNumbers(tuple(item.name for item in sequence.numbers))] if sequence.numbers else []
        )
        self.heads, self.dimension = heads, dimension
        event = sum(item.dimension for item in sequence.categories) + self.ages.width + 2 * len(sequence.numbers)
        self.to_query = Linear(sum(item.dimension for item in query), heads * dimension)
        self.to_key = Linear(event, heads * dimension)
        self.to_bias = Linear(event, heads)
        self.to_value = Linear(event, value)
        self.to_rectified = Linear(event, value)
        self.nothing = nn.Parameter(torch.zeros(heads))
        self.width = heads * value

    def events(self, features: dict[str, Tensor]) -> Tensor:
        """Return each event's fields, age and numbers: [rows, length, width]."""
        parts = [features[name] for name in self.fields]
        parts.append(self.ages(features).flatten(2))
        parts += [module(features) for module in self.numbers]
        return torch.cat(parts, dim=-1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, heads * value]."""
        events = self.events(features)
        query = self.to_query(torch.cat([features[name] for name in self.query], dim=-1))
        query = query.unflatten(-1, (self.heads, self.dimension))
        scores = self.products(query, events) * self.dimension**-0.5
        scores = scores + self.to_bias(events).transpose(1, 2)
        scores = scores.masked_fill(~features[self.mask].unsqueeze(1), float("-inf"))
        nothing = self.nothing.expand(scores.shape[0], self.heads).unsqueeze(-1)
        weights = torch.softmax(torch.cat([scores, nothing], dim=-1), dim=-1)[..., :-1]
        pooled = torch.einsum("rhl,rle->rhe", weights, events)
        linear = functional.linear(pooled, self.to_value.weight)
        linear = linear + self.to_value.bias * weights.sum(dim=-1, keepdim=True)
        rectified = torch.einsum("rhl,rlv->rhv", weights, functional.relu(self.to_rectified(events)))
        return (linear + rectified).flatten(1)

    def products(self, query: Tensor, events: Tensor) -> Tensor:
        """Return q·k of each head and event, [rows, heads, length].

        q·(W e + b) = (Wᵀ q)·e + q·b: the key's matrix is applied to the one query, not to every event.
        """
        weight = torch.unflatten(self.to_key.weight, 0, (self.heads, self.dimension))
        bias = torch.unflatten(self.to_key.bias, 0, (self.heads, self.dimension))
        turned = torch.einsum("rhd,hde->rhe", query, weight)
        offset: Tensor = (query * bias).sum(dim=-1, keepdim=True)
        return torch.einsum("rhe,rle->rhl", turned, events) + offset
