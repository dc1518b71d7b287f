"""Modules as users write them: the odd ones that a compiler must get right, and those whose rows meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.compiler.stage import Stage

Shapes = dict[str, tuple[int, ...]]
WIDTH, LENGTH = 8, 5
SHAPES: Shapes = {
    "user": (WIDTH,), "item": (WIDTH,), "cross": (3,), "price": (), "history": (LENGTH, WIDTH), "mask": (LENGTH,),
}  # fmt: skip
STAGES: dict[str, Stage] = {
    "user": "request", "item": "item", "cross": "pair", "price": "item", "history": "request", "mask": "request",
}  # fmt: skip


def example(rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Return features of ``rows`` candidates of one request: those of the request have one row."""
    generator = torch.Generator().manual_seed(seed)
    features = {}
    for name, shape in SHAPES.items():
        count = 1 if STAGES[name] == "request" else rows
        features[name] = torch.randn(count, *shape, generator=generator)
    features["mask"] = torch.arange(LENGTH) < torch.randint(0, LENGTH + 1, (1, 1), generator=generator)
    return features


def expanded(features: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Return every feature with one row per candidate, as a module in training sees them."""
    return {name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}


class Residual(nn.Module):
    """Residual blocks with layer norms over the concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * WIDTH + 3)
        self.layers = nn.ModuleList(nn.Linear(2 * WIDTH + 3, 2 * WIDTH + 3) for _ in range(2))
        self.head = nn.Linear(2 * WIDTH + 3, 1)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, features):
        x = self.norm(torch.cat([features["user"], features["item"], features["cross"]], dim=-1))
        for layer in self.layers:
            x = x + functional.gelu(layer(x))
        return {"click": self.head(x).squeeze(-1)}


class Gated(nn.Module):
    """Gates of the user over the item's values and back, with in-place operations."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Linear(2 * WIDTH, 4)

    def forward(self, features):
        gate = torch.sigmoid(self.gate(features["user"]))
        item = features["item"] * gate
        item.mul_(2).clamp_(min=-3)
        both = torch.cat([item, features["user"] * torch.tanh(features["price"]).unsqueeze(1)], dim=1)
        both[:, :2] = 0.5
        return {"click": functional.silu(self.mix(both)).sum(dim=1)}


class FlattenedAttention(nn.Module):
    """Target attention written with ``reshape(B * L, ...)``, ``expand`` and ``bmm``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4 * WIDTH, 6)
        self.second = nn.Linear(6, 1)
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(self, features):
        keys = features["history"]
        rows, length, width = keys.shape
        query = features["item"].unsqueeze(1).expand(rows, length, width)
        pairs = torch.cat([query, keys, query - keys, query * keys], dim=-1).reshape(rows * length, 4 * width)
        scores = self.second(torch.relu(self.first(pairs))).reshape(rows, length)
        scores = scores.masked_fill(~features["mask"], float("-inf"))
        weights = torch.softmax(scores, dim=1).nan_to_num(0.0)
        pooled = torch.bmm(weights.unsqueeze(1), keys).squeeze(1)
        return {"click": self.head(torch.cat([pooled, features["user"]], dim=1))[:, 0]}


class SharedTower(nn.Module):
    """One tower for users and items; cosine and dot-product heads."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(WIDTH, 12), nn.PReLU(), nn.BatchNorm1d(12), nn.Linear(12, 6)).eval()
        self.tower[2].running_mean.normal_()
        self.tower[2].running_var.uniform_(0.5, 2)

    def forward(self, features):
        user, item = self.tower(features["user"]), self.tower(features["item"])
        cosine = functional.cosine_similarity(user, item, dim=-1)
        return {"cosine": cosine, "dot": torch.einsum("bd,bd->b", user, item)}


class OneSided(nn.Module):
    """Heads of the user alone, of the item alone, of both, and one that has two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Linear(WIDTH, 1)
        self.item = nn.Linear(WIDTH, 1)
        self.both = nn.Linear(2, 2)

    def forward(self, features):
        user, item = self.user(features["user"])[:, 0], self.item(features["item"])[:, 0]
        return {"user": user, "item": item, "both": self.both(torch.stack([user, item], dim=1))}


class SelfAttention(nn.Module):
    """A transformer over the history, heads folded into the batch dimension, sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(self, features):
        history = features["history"].transpose(0, 1)
        length, rows, width = history.shape
        query, key, value = self.project(history).chunk(3, dim=-1)

        def headed(x):
            return x.reshape(length, rows * self.heads, width // self.heads).transpose(0, 1)

        scores = torch.bmm(headed(query), headed(key).transpose(1, 2)) / (width // self.heads) ** 0.5
        mixed = torch.bmm(scores.softmax(dim=-1), headed(value)).transpose(0, 1).reshape(length, rows, width)
        encoded = self.norm(history + self.out(mixed)).mean(dim=0)
        return {"click": self.head(torch.cat([encoded, features["item"]], dim=-1)).squeeze(1)}


class Library(nn.Module):
    """PyTorch's own attention and encoder layers, as most people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.1, batch_first=True)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, features):
        encoded = self.encoder(features["history"])
        query = features["item"].unsqueeze(1)
        pooled, _ = self.attention(query, encoded, encoded, need_weights=False)
        return {"click": self.head(pooled.squeeze(1) + features["user"]).squeeze(-1)}


class Masks(nn.Module):
    """Masks, sorts, cumulative sums and places of the history; unknown numbers."""

    def forward(self, features):
        mask = features["mask"]
        scores = torch.einsum("bld,bd->bl", features["history"], features["item"])
        best = torch.where(mask, scores, torch.full_like(scores, -1e9)).topk(2, dim=1).values
        decay = torch.cumsum(mask.float(), dim=1).neg().exp()
        order = scores.sort(dim=1, descending=True).indices.float()
        greatest = scores.masked_fill(~mask, 0).max(dim=1).values
        total = (scores * decay * mask).sum(dim=1) + order[:, 0] * 0.1 + greatest
        return {"click": total + best.clamp(min=-5)[:, 1] + torch.log1p(features["price"].abs())}


class Fields(nn.Module):
    """FM, inner products of all pairs of fields, and a cross layer over the same stack."""

    def __init__(self) -> None:
        super().__init__()
        self.cross = nn.Linear(4 * WIDTH, 4 * WIDTH)
        self.of_cross = nn.Linear(3, WIDTH, bias=False)
        self.head = nn.Linear(4 * WIDTH + 6, 1)
        self.register_buffer("left", torch.triu_indices(4, 4, 1)[0])
        self.register_buffer("right", torch.triu_indices(4, 4, 1)[1])

    def forward(self, features):
        mask = features["mask"]
        mean = (features["history"] * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        fields = torch.stack([features["user"], features["item"], self.of_cross(features["cross"]), mean], dim=1)
        pairs = 0.5 * (fields.sum(1) ** 2 - (fields**2).sum(1)).sum(1)
        inner = (fields @ fields.transpose(1, 2))[:, self.left, self.right]
        flat = fields.flatten(1)
        crossed = flat * self.cross(flat) + flat
        return {"click": self.head(torch.cat([crossed, inner], dim=1)).flatten() + pairs}


class Experts(nn.Module):
    """Two tasks over three experts, written with one batched weight, and a gate that only the user moves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2 * WIDTH, 4) * 0.3)
        self.bias = nn.Parameter(torch.randn(3, 4))
        self.gates = nn.ModuleList([nn.Linear(2 * WIDTH, 3), nn.Linear(WIDTH, 3)])
        self.heads = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])

    def forward(self, features):
        both = torch.cat([features["user"], features["item"]], dim=1)
        experts = torch.relu(torch.einsum("bi,eio->beo", both, self.weight) + self.bias)
        weights = [self.gates[0](both).softmax(1), self.gates[1](features["user"]).softmax(1)]
        mixed = [(weight.unsqueeze(2) * experts).sum(1) for weight in weights]
        click, buy = (head(value).squeeze(1) for head, value in zip(self.heads, mixed, strict=True))
        return {"click": click, "buy": click + functional.logsigmoid(buy)}


_ODD = (Residual, Gated, FlattenedAttention, SharedTower, OneSided, SelfAttention, Library, Masks, Fields, Experts)
ODD = {each.__name__: each for each in _ODD}


class SoftmaxOverRows(nn.Module):
    """Scores as shares of the slate: every candidate changes every other."""

    def forward(self, features):
        score = (features["user"] * features["item"]).sum(dim=1)
        return {"share": torch.softmax(score, dim=0)}


class BatchStatistics(nn.Module):
    """Values normalised by the candidates' own mean and deviation."""

    def forward(self, features):
        item = features["item"]
        centred = (item - item.mean(dim=0)) / (item.var(dim=0, unbiased=False) + 1e-3).sqrt()
        return {"click": centred.sum(dim=1) + features["user"][:, 0]}


class Listwise(nn.Module):
    """Candidates attend to each other: a product that contracts rows."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, features):
        item = features["item"] + features["user"]
        weights = torch.softmax(self.query(item) @ self.key(item).T, dim=1)
        return {"click": (weights @ item).sum(dim=1)}


class Places(nn.Module):
    """A candidate's score depends on its place in the list and on the number of candidates."""

    def forward(self, features):
        rows = features["item"].shape[0]
        place = torch.arange(rows, dtype=torch.float32) / rows
        return {"click": features["item"][:, 0] - place + features["user"].sum(dim=0)[0] / rows}


class FirstRow(nn.Module):
    """Every candidate is compared with the first."""

    def forward(self, features):
        return {"click": (features["item"] * features["item"][0]).sum(dim=1) + features["user"][:, 1]}


COUPLED = {each.__name__: each for each in (SoftmaxOverRows, BatchStatistics, Listwise, Places, FirstRow)}


class DependsOnData(nn.Module):
    def forward(self, features):
        if features["item"].sum() > 0:
            return {"click": features["item"][:, 0]}
        return {"click": features["item"][:, 1]}


class DropsRows(nn.Module):
    def forward(self, features):
        return {"click": features["item"][1:, 0]}


class Random(nn.Module):
    def forward(self, features):
        return {"click": features["item"][:, 0] + torch.rand_like(features["item"][:, 0])}


class NoDict(nn.Module):
    def forward(self, features):
        return features["item"][:, 0]


REFUSED = {each.__name__: each for each in (DependsOnData, DropsRows, Random, NoDict)}
