"""How models read sequences of events: event vectors, pooling, target attention."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.deferred import TableRows, in_place, stretches
from bowerbird.embedding.inputs import CategoryInput, Inputs, SequenceInput
from bowerbird.models.layers import MLP, masked_mean
from bowerbird.models.numbers import StandardNumbers
from bowerbird.models.trained_attention import Parts, first_layer, is_trainable, pooled
from bowerbird.models.trained_linear import Linear
from bowerbird.models.whole_attention import UNMET, Scorer, takes_whole, whole

Pooling = Literal["scaled_sum", "sum"]
"""How weighted events become one vector: their sum, over the square root of their number or as it is."""


class EventVectors(nn.Module):
    """One vector per event: its embedded fields, then its age and other numbers, standardised.

    ``forward`` returns float32 [rows, length, width].
    """

    def __init__(self, sequence: SequenceInput) -> None:
        super().__init__()
        self.categories = tuple(item.name for item in sequence.categories)
        self.numbers = StandardNumbers((sequence.age, *(item.name for item in sequence.numbers)))
        self.width = sum(item.dimension for item in sequence.categories) + self.numbers.width

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, length, width]."""
        return torch.cat([*(features[name] for name in self.categories), self.numbers(features)], dim=-1)


class History(nn.Module):
    """A sequence as one vector: ``forward`` returns float32 [rows, width].

    A sequence of the request may stand there once for all rows (its tensors have one row, the candidates' many);
    what depends on it alone then has one row, too, and ``joined`` expands it.
    """

    width: int


class MeanHistory(History):
    """A sequence as the mean of its events' vectors: [rows, width]."""

    def __init__(self, sequence: SequenceInput) -> None:
        super().__init__()
        self.mask = sequence.mask
        self.events = EventVectors(sequence)
        self.width = self.events.width

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, width]."""
        return masked_mean(self.events(features), features[self.mask])


class TargetAttention(History):
    """A sequence as a sum of its events, weighted by how they meet the candidate (DIN, Zhou et al., 2018).

    The weight of an event is an MLP over [q, k, q - k, q * k], where q are the candidate's embeddings and k
    the event's of the same vocabularies, and over the event's other fields and age. Its first layer is written
    as A q + B (q * k) + C e, with e all of the event: the same functions, since k is a part of e, and A q and C e
    are computed once per candidate and once per event. As in the paper weights are not normalised by a
    softmax. Its ``sum`` grows with the number of events; ``scaled_sum`` divides that by the number's square root, so
    that long histories neither vanish nor explode. ``forward`` returns [rows, width].
    """

    def __init__(
        self,
        sequence: SequenceInput,
        pairs: tuple[tuple[CategoryInput, CategoryInput], ...],
        hidden: tuple[int, ...],
        pooling: Pooling = "scaled_sum",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.mask = sequence.mask
        self.events = EventVectors(sequence)
        self.candidate = tuple(candidate.name for candidate, _ in pairs)
        self.event = tuple(event.name for _, event in pairs)
        shared = sum(event.dimension for _, event in pairs)
        self.of_query = Linear(shared, hidden[0])
        self.of_product = Linear(shared, hidden[0], bias=False)
        self.of_event = Linear(self.events.width, hidden[0], bias=False)
        self.scorer = MLP(hidden[0], hidden[1:], dropout=0.0)
        self.score = Linear(hidden[-1], 1)
        self.width = self.events.width
        self.parts = _meetings(sequence, [event for _, event in pairs])

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, width]."""
        mask, numbers = features[self.mask], self.events.numbers(features)
        query = joined(stretches(features, self.candidate), [])
        natively = self.training and not torch.compiler.is_compiling()
        parts = [*(in_place(features, name) for name in self.events.categories), numbers]
        if natively and takes_whole(parts, query, self._linear_layers()):
            return self._whole(parts, query, mask)
        events = torch.cat([*(features[name] for name in self.events.categories), numbers], dim=-1)
        natively = natively and is_trainable(events, query)
        if natively:
            matrix = torch.cat([self.of_event.weight, self.of_product.weight], dim=1)
            hidden, events = first_layer(events, query, self.parts, matrix, self.of_query(query))
        else:
            keys = torch.cat([features[name] for name in self.event], dim=-1)
            of_products = self.of_product(query.unsqueeze(1) * keys) + self.of_event(events)
            hidden = functional.relu(self.of_query(query.unsqueeze(1)) + of_products)
        scores = self.score(self.scorer(hidden)).squeeze(-1)
        weights = scores.masked_fill(~mask, 0.0)
        if self.pooling == "scaled_sum":
            weights = weights / mask.to(scores.dtype).sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
        return pooled(weights, events) if natively else torch.einsum("rl,rld->rd", weights, events)

    def _linear_layers(self) -> list[Linear]:
        return [layer for layer in self.modules() if isinstance(layer, Linear)]

    def _whole(self, parts: list[Tensor | TableRows], query: Tensor, mask: Tensor) -> Tensor:
        matrix = torch.cat([self.of_event.weight, self.of_product.weight], dim=1)
        later = [layer for layer in (*self.scorer, self.score) if isinstance(layer, Linear)]
        scorer = Scorer(matrix, [(layer.weight, layer.bias) for layer in later])
        starts = {event: start for start, event, _ in self.parts}
        places = accumulate((part.shape[-1] for part in parts[:-1]), initial=0)
        meets = [starts.get(place, UNMET) for place in places]
        return whole(parts, meets, mask, query, self.of_query(query), scorer, self.pooling == "scaled_sum")


def _meetings(sequence: SequenceInput, met: list[CategoryInput]) -> Parts:
    """Return where the fields that the candidate meets stand in the query and in an event's vector."""
    widths = [item.dimension for item in sequence.categories]
    places = {item.name: sum(widths[:place]) for place, item in enumerate(sequence.categories)}
    starts = [sum(item.dimension for item in met[:place]) for place in range(len(met))]
    return [(start, places[item.name], item.dimension) for start, item in zip(starts, met, strict=True)]


def joined(parts: list[Tensor], histories: list[Tensor]) -> Tensor:
    """Return parts [rows, …] and histories' vectors [rows or 1, …] end to end, [rows, width]."""
    if len(parts) == 1 and not histories:
        return parts[0]
    rows = (parts or histories)[0].shape[0]
    return torch.cat([*parts, *(vectors.expand(rows, vectors.shape[1]) for vectors in histories)], dim=-1)


def shared_fields(inputs: Inputs, sequence: SequenceInput) -> tuple[tuple[CategoryInput, CategoryInput], ...]:
    """Return (candidate's category, sequence's field) for each field whose vocabulary a candidate shares.

    Only categories of stage *item* or *pair* are the candidate's.
    """
    pairs = []
    for field in sequence.categories:
        matches = [
            item for item in inputs.categories if item.vocabulary == field.vocabulary and item.stage != "request"
        ]
        if matches:
            pairs.append((matches[0], field))
    return tuple(pairs)


def mean_histories(inputs: Inputs) -> list[History]:
    """Return a mean pooling for each sequence."""
    return [MeanHistory(sequence) for sequence in inputs.sequences]


def attentive_histories(
    inputs: Inputs, hidden: tuple[int, ...], pooling: Pooling = "scaled_sum"
) -> list[History]:
    """Return target attention for each sequence; a mean where the candidate shares no vocabulary with it."""
    histories: list[History] = []
    for sequence in inputs.sequences:
        pairs = shared_fields(inputs, sequence)
        histories.append(TargetAttention(sequence, pairs, hidden, pooling) if pairs else MeanHistory(sequence))
    return histories
