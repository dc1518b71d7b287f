"""Target attention and mixtures of experts, as many ways as people write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dice(nn.Module):
    """DIN's activation, by its paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-8)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.alpha = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        share = torch.sigmoid(self.norm(x.flatten(0, -2)).reshape(x.shape))
        return share * x + (1 - share) * self.alpha * x


class Prelu(nn.PReLU):
    """A slope for each of the last dimension's values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).reshape(x.shape)


ACTIVATIONS = {
    "relu": lambda width: nn.ReLU(), "prelu": lambda width: nn.PReLU(), "prelus": Prelu,
    "sigmoid": lambda width: nn.Sigmoid(), "dice": Dice, "leaky": lambda width: nn.LeakyReLU(0.1),
}  # fmt: skip


class Scorer(nn.Module):
    """An MLP from what meets to one score."""

    def __init__(self, width: int, hidden: tuple[int, ...], activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), ACTIVATIONS[activation](size)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, met: Tensor) -> Tensor:
        return self.layers(met)


def met_all(query, keys):
    wide = query.unsqueeze(1).expand(-1, keys.shape[1], -1)
    return torch.cat([wide, keys, wide - keys, wide * keys], dim=-1)


def met_repeated(query, keys):
    wide = query.repeat(1, keys.shape[1]).view(keys.shape)
    return torch.cat((keys, wide, keys - wide, keys * wide), 2)


def met_without_product(query, keys):
    return torch.cat([query[:, None].expand_as(keys), keys], dim=-1)


def met_product_alone(query, keys):
    return query.unsqueeze(1) * keys


def pool_einsum(weights, values):
    return torch.einsum("rl,rld->rd", weights, values)


def pool_bmm(weights, values):
    return torch.bmm(weights.unsqueeze(1), values).squeeze(1)


def pool_transposed(weights, values):
    return (values.transpose(1, 2) @ weights.unsqueeze(2)).squeeze(2)


def pool_sum(weights, values):
    return (weights.unsqueeze(-1) * values).sum(dim=1)


def weigh_multiplied(scores, mask):
    return scores * mask.float()


def weigh_filled(scores, mask):
    return scores.masked_fill(~mask, 0.0) / scores.shape[1] ** 0.5


def weigh_where(scores, mask):
    return torch.where(mask, scores, torch.zeros_like(scores)) / mask.float().sum(1, keepdim=True).clamp(min=1).sqrt()


def weigh_sigmoid(scores, mask):
    return torch.sigmoid(scores) * mask


def weigh_softmax(scores, mask):
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1).nan_to_num(0.0)


def weigh_large_negative(scores, mask):
    return functional.softmax(torch.where(mask, scores, torch.full_like(scores, -(2**32) + 1)) / 1.5, dim=1)


def weigh_added(scores, mask):
    return torch.softmax(scores * 0.5 + (1.0 - mask.float()) * -1e9, dim=-1)


def weigh_softmax_masked_after(scores, mask):
    weights = torch.softmax(scores, dim=-1) * mask
    return weights / (weights.sum(dim=1, keepdim=True) + 1e-6)


def weigh_plain(scores, mask):
    return scores


SPELLINGS = {
    "as the paper": (met_all, "dice", (8, 4), weigh_multiplied, pool_sum),
    "masked fill": (met_all, "relu", (8, 4), weigh_filled, pool_einsum),
    "one hidden layer": (met_repeated, "sigmoid", (6,), weigh_where, pool_bmm),
    "three hidden layers": (met_all, "prelu", (8, 6, 4), weigh_sigmoid, pool_transposed),
    "no product": (met_without_product, "prelus", (8,), weigh_filled, pool_sum),
    "the product alone": (met_product_alone, "leaky", (8, 4), weigh_multiplied, pool_bmm),
    "softmax": (met_all, "relu", (8, 4), weigh_softmax, pool_einsum),
    "softmax, large negative": (met_repeated, "dice", (8,), weigh_large_negative, pool_sum),
    "softmax, added mask": (met_all, "prelu", (8, 4), weigh_added, pool_bmm),
    "softmax, masked after": (met_all, "relu", (8,), weigh_softmax_masked_after, pool_sum),
    "no mask": (met_all, "relu", (8, 4), weigh_plain, pool_einsum),
}


class Spelled(nn.Module):
    """One spelling: layers score events, weights pool them or other values, an MLP follows."""

    def __init__(self, spelling: str, width: int, other_values: bool) -> None:
        super().__init__()
        self.met, activation, hidden, self.weigh, self.pool = SPELLINGS[spelling]
        self.scorer = Scorer(self.met(torch.zeros(1, width), torch.zeros(1, 2, width)).shape[-1], hidden, activation)
        self.values = nn.Linear(width, 5) if other_values else nn.Identity()
        self.head = Scorer(width + (5 if other_values else width), (6,), activation)

    def forward(self, features):
        history, mask = features["history"], features["mask"]
        scores = self.scorer(self.met(features["item"], history)).squeeze(-1)
        pooled = self.pool(self.weigh(scores, mask), self.values(history))
        return {"click": self.head(torch.cat([features["user"], pooled], dim=-1)).squeeze(-1)}


class DotProduct(nn.Module):
    """Dot-product attention of the candidate, of several heads or one, with a softmax or without."""

    def __init__(self, width: int, heads: int, softmax: bool) -> None:
        super().__init__()
        self.heads, self.softmax = heads, softmax
        self.query, self.key, self.value = (nn.Linear(width, 4 * heads) for _ in range(3))
        self.head = nn.Linear(4 * heads, 1)

    def forward(self, features):
        history, mask = features["history"], features["mask"]

        def headed(x):
            return x.unflatten(-1, (self.heads, 4)).transpose(-3, -2)

        query = headed(self.query(features["item"]).unsqueeze(1))
        scores = query @ headed(self.key(history)).transpose(-1, -2) / 2.0
        if self.softmax:
            weights = scores.masked_fill(~mask[:, None, None, :], -1e9).softmax(-1)
        else:
            weights = scores * mask[:, None, None, :]
        pooled = (weights @ headed(self.value(history))).transpose(1, 2).flatten(1)
        return {"click": self.head(pooled).squeeze(-1)}


def mix_einsum(gates, experts):
    return torch.einsum("re,red->rd", gates, torch.stack(experts, dim=1))


def mix_bmm(gates, experts):
    return torch.bmm(gates.unsqueeze(1), torch.stack(experts, 1)).squeeze(1)


def mix_multiplied(gates, experts):
    return (gates.unsqueeze(-1) * torch.stack(experts, dim=1)).sum(dim=1)


def mix_last(gates, experts):
    return (torch.stack(experts, dim=-1) @ gates.unsqueeze(-1)).squeeze(-1)


def mix_columns(gates, experts):
    return sum(gates[:, place : place + 1] * expert for place, expert in enumerate(experts))


def mix_chunks(gates, experts):
    return sum(gate * expert for gate, expert in zip(gates.chunk(len(experts), dim=1), experts, strict=True))


def mix_unbound(gates, experts):
    stacked = torch.stack([gate.unsqueeze(1) for gate in gates.unbind(1)], 0) * torch.stack(experts, 0)
    return stacked.sum(0)


MIXTURES = {each.__name__: each for each in (
    mix_einsum, mix_bmm, mix_multiplied, mix_last, mix_columns, mix_chunks, mix_unbound,
)}  # fmt: skip


class Mixed(nn.Module):
    """MMoE with one way to mix."""

    def __init__(self, mixture: str, width: int, experts: int) -> None:
        super().__init__()
        self.mix = MIXTURES[mixture]
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, 6), nn.ReLU()) for _ in range(experts))
        self.gates = nn.ModuleList(nn.Linear(2 * width, experts) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(2))

    def forward(self, features):
        both = torch.cat([features["user"], features["item"]], dim=1)
        experts = [expert(both) for expert in self.experts]
        mixed = [self.mix(torch.softmax(gate(both), dim=1), experts) for gate in self.gates]
        return {
            name: head(value).squeeze(1)
            for name, head, value in zip(("click", "buy"), self.heads, mixed, strict=True)
        }
