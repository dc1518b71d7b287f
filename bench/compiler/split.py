"""The five models split by hand, as an expert deploys them: what a request needs, what is kept of an item, the rest.

Each split is three plain modules over tensors in order that share the model's weights: ``request`` runs once per
request, ``item`` when an item changes, ``pair`` on all candidates, given what the other two leave (the request's with
one row). Nothing here knows of the compiler. Linear layers over concatenations are cut into their columns, target
attention's first layer into W[q, k, q - k, q * k] = (Wq + Wd) q + (Wk - Wd) k + Wp (q * k).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.compiler.models import DIMENSION, Attention, Case, CrossNet, Mixture, Reference, Shape, UserTransformer


@dataclass(frozen=True)
class Split:
    """Three modules; ``reads`` are the features of the request that ``request`` takes, ``item`` takes the item's."""

    request: nn.Module
    item: nn.Module
    pair: nn.Module
    reads: tuple[str, ...]


def split(case: Case) -> Split:
    """Return a case's model split by hand."""
    module, shape = case.module, case.shape
    match module:
        case Reference():
            return Split(
                DinRequest(module.attention, [module.mlp[0]], shape), DinItem(module.attention, [module.mlp[0]], shape),
                DinPair(module.attention, module.mlp, shape), ("user", "history", "mask"),
            )  # fmt: skip
        case Mixture():
            layers = [*(expert[0] for expert in module.experts), *module.gates]
            return Split(
                DinRequest(module.attention, layers, shape), DinItem(module.attention, layers, shape),
                MixturePair(module, layers, shape), ("user", "history", "mask"),
            )  # fmt: skip
        case CrossNet():
            return Split(
                CrossRequest(module, shape), CrossItem(module, shape), CrossPair(module), ("user", "history", "mask")
            )
        case UserTransformer():
            return Split(
                EncoderRequest(module, shape), EncoderItem(module, shape), EncoderPair(module), ("user", "history")
            )
    raise TypeError(f"nobody has split {type(module).__name__}")


class Columns(nn.Module):
    """Some columns of the weights of linear layers that read the same input, one below the other."""

    def __init__(self, layers: list[nn.Linear], columns: Tensor, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(len(columns), sum(layer.out_features for layer in layers), bias=bias)
        with torch.no_grad():
            self.linear.weight.copy_(torch.cat([layer.weight[:, columns] for layer in layers]))
            if bias:
                self.linear.bias.copy_(torch.cat([layer.bias for layer in layers]))

    def forward(self, value: Tensor) -> Tensor:
        return self.linear(value)


def places(shape: Shape, *parts: str) -> Tensor:
    """Return the columns of [user, item, pooled] that parts stand in."""
    user, item = shape.user * DIMENSION, shape.item * DIMENSION
    found = {
        "user": range(user),
        "item": range(user, user + item),
        "pooled": range(user + item, user + item + DIMENSION),
    }
    return torch.tensor([place for part in parts for place in found[part]])


def attention_layer(attention: Attention, part: str) -> nn.Linear:
    """Return what is left of target attention's first layer for the query, the key or their product."""
    first: nn.Linear = attention.scorer[0]
    query, key, difference, product = first.weight.split(DIMENSION, dim=1)
    weight = {"query": query + difference, "key": key - difference, "product": product}[part]
    layer = nn.Linear(DIMENSION, first.out_features, bias=part == "key")
    with torch.no_grad():
        layer.weight.copy_(weight)
        if part == "key":
            layer.bias.copy_(first.bias)
    return layer


class DinRequest(nn.Module):
    """The history as it is, its part of the attention's first layer, the mask as weights, the user's part."""

    def __init__(self, attention: Attention, layers: list[nn.Linear], shape: Shape) -> None:
        super().__init__()
        self.key = attention_layer(attention, "key")
        self.user = Columns(layers, places(shape, "user"), bias=True)

    def forward(self, user: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        weight = mask.to(history.dtype) / history.shape[1] ** 0.5
        return history.clone(), self.key(history), weight, self.user(user)


class DinItem(nn.Module):
    """The query, its part of the attention's first layer, the item's part of the layers behind."""

    def __init__(self, attention: Attention, layers: list[nn.Linear], shape: Shape) -> None:
        super().__init__()
        self.query = attention_layer(attention, "query")
        self.columns = Columns(layers, places(shape, "item"))

    def forward(self, item: Tensor) -> tuple[Tensor, ...]:
        query = item[:, :DIMENSION].contiguous()
        return query, self.query(query), self.columns(item)


class DinPooled(nn.Module):
    """Target attention per candidate: the product's part of the first layer, and the layers behind it."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.product = attention_layer(attention, "product")
        self.rest = attention.scorer[1:]

    def forward(self, history: Tensor, keys: Tensor, weight: Tensor, query: Tensor, part: Tensor) -> Tensor:
        met = self.product(query.unsqueeze(1) * history) + part.unsqueeze(1) + keys
        return (self.rest(met).squeeze(-1) * weight) @ history.squeeze(0)


class DinPair(nn.Module):
    """Attention, then the MLP from its first layer's sum on."""

    def __init__(self, attention: Attention, mlp: nn.Sequential, shape: Shape) -> None:
        super().__init__()
        self.pooled = DinPooled(attention)
        self.first = Columns([mlp[0]], places(shape, "pooled"))
        self.rest = mlp[1:]

    def forward(
        self, history: Tensor, keys: Tensor, weight: Tensor, user: Tensor, query: Tensor, part: Tensor, item: Tensor
    ) -> tuple[Tensor, ...]:
        pooled = self.pooled(history, keys, weight, query, part)
        return (self.rest(self.first(pooled) + item + user).squeeze(-1),)


class MixturePair(nn.Module):
    """Attention, then the sums of all experts' and gates' first layers at once."""

    def __init__(self, module: Mixture, layers: list[nn.Linear], shape: Shape) -> None:
        super().__init__()
        self.pooled = DinPooled(module.attention)
        self.first = Columns(layers, places(shape, "pooled"))
        self.seconds = nn.ModuleList(expert[2] for expert in module.experts)
        self.towers = module.towers
        self.sizes = [layer.out_features for layer in layers]

    def forward(
        self, history: Tensor, keys: Tensor, weight: Tensor, user: Tensor, query: Tensor, part: Tensor, item: Tensor
    ) -> tuple[Tensor, ...]:
        pooled = self.pooled(history, keys, weight, query, part)
        parts = (self.first(pooled) + item + user).split(self.sizes, dim=1)
        count = len(self.seconds)
        experts = [
            torch.relu(second(torch.relu(given))) for second, given in zip(self.seconds, parts[:count], strict=True)
        ]
        logits = []
        for gate, tower in zip(parts[count:], self.towers, strict=True):
            shares = torch.softmax(gate, dim=-1)
            mixed = shares[:, :1] * experts[0]
            for place in range(1, count):
                mixed = mixed + shares[:, place : place + 1] * experts[place]
            logits.append(tower(mixed).squeeze(-1))
        return tuple(logits)


class CrossRequest(nn.Module):
    """User and mean of the history, their part of the first cross layer and of the MLP's first."""

    def __init__(self, module: CrossNet, shape: Shape) -> None:
        super().__init__()
        layers = [module.crosses[0], module.mlp[0]]
        self.columns = Columns(layers, places(shape, "user", "pooled"), bias=True)

    def forward(self, user: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        weight = mask.to(history.dtype).unsqueeze(-1)
        pooled = (history * weight).sum(1) / weight.sum(1).clamp(min=1)
        return user.clone(), pooled, self.columns(torch.cat([user, pooled], dim=-1))


class CrossItem(nn.Module):
    """The item, and its part of both first layers."""

    def __init__(self, module: CrossNet, shape: Shape) -> None:
        super().__init__()
        self.columns = Columns([module.crosses[0], module.mlp[0]], places(shape, "item"))

    def forward(self, item: Tensor) -> tuple[Tensor, ...]:
        return item.clone(), self.columns(item)


class CrossPair(nn.Module):
    """The first layers' sums, the cross layers behind, the rest of the MLP."""

    def __init__(self, module: CrossNet) -> None:
        super().__init__()
        self.crosses = module.crosses[1:]
        self.rest = module.mlp[1:]
        self.head = module.head
        self.sizes = [module.crosses[0].out_features, module.mlp[0].out_features]

    def forward(self, user: Tensor, pooled: Tensor, shared: Tensor, item: Tensor, part: Tensor) -> tuple[Tensor, ...]:
        rows = item.shape[0]
        first = torch.cat([user.expand(rows, -1), item, pooled.expand(rows, -1)], dim=-1)
        crossing, hidden = (part + shared).split(self.sizes, dim=1)
        crossed = first * crossing + first
        for layer in self.crosses:
            crossed = first * layer(crossed) + crossed
        return ((self.head(crossed) + self.rest(hidden)).squeeze(-1),)


class EncoderRequest(nn.Module):
    """The encoder over the user's events, and the user's part of the MLP's first layer."""

    def __init__(self, module: UserTransformer, shape: Shape) -> None:
        super().__init__()
        self.encoder = module.encoder
        self.columns = Columns([module.mlp[0]], places(shape, "user", "pooled"), bias=True)

    def forward(self, user: Tensor, history: Tensor) -> tuple[Tensor, ...]:
        return (self.columns(torch.cat([user, self.encoder(history).mean(dim=1)], dim=-1)),)


class EncoderItem(nn.Module):
    """The item's part of the MLP's first layer."""

    def __init__(self, module: UserTransformer, shape: Shape) -> None:
        super().__init__()
        self.columns = Columns([module.mlp[0]], places(shape, "item"))

    def forward(self, item: Tensor) -> tuple[Tensor, ...]:
        return (self.columns(item),)


class EncoderPair(nn.Module):
    """The MLP from its first layer's sum on."""

    def __init__(self, module: UserTransformer) -> None:
        super().__init__()
        self.rest = module.mlp[1:]

    def forward(self, shared: Tensor, part: Tensor) -> tuple[Tensor, ...]:
        return (self.rest(part + shared).squeeze(-1),)
