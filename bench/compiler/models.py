"""The models that the compiler is measured with: plain modules over tensors [rows, ...], and random features."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from bowerbird.compiler.stage import Stage

DIMENSION = 16


@dataclass(frozen=True)
class Shape:
    """How many fields a request and an item have, and how long the history is; of width 16 each."""

    user: int = 20
    item: int = 15
    length: int = 100

    @property
    def stages(self) -> dict[str, Stage]:
        """The stage of each tensor."""
        return {"user": "request", "history": "request", "mask": "request", "item": "item"}

    def features(self, rows: int, seed: int = 0) -> dict[str, Tensor]:
        """Return random features of one request's candidates; those of the request have one row."""
        generator = torch.Generator().manual_seed(seed)
        return {
            "user": 0.3 * torch.randn(1, self.user * DIMENSION, generator=generator),
            "history": 0.3 * torch.randn(1, self.length, DIMENSION, generator=generator),
            "mask": torch.arange(self.length)[None] < self.length * 9 // 10,
            "item": 0.3 * torch.randn(rows, self.item * DIMENSION, generator=generator),
        }


class Heads(nn.Module):
    """A model that says which linear layers a task's logit is the sum of."""

    def heads(self) -> dict[str, list[nn.Linear]]:
        """Return the last layers by task."""
        raise NotImplementedError


class Attention(nn.Module):
    """DIN's target attention as the paper writes it: an MLP over [q, k, q - k, q * k] weighs each event."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (4 * DIMENSION, *hidden)
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.scorer = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        wide = query.unsqueeze(1).expand(-1, keys.shape[1], -1)
        scores = self.scorer(torch.cat([wide, keys, wide - keys, wide * keys], dim=-1)).squeeze(-1)
        return torch.einsum("rl,rld->rd", scores.masked_fill(~mask, 0.0) / keys.shape[1] ** 0.5, keys)


def mlp(width: int, sizes: tuple[int, ...]) -> nn.Sequential:
    """Return linear layers with rectifiers, and one logit."""
    widths = (width, *sizes)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


class Reference(Heads):
    """DIN of 20 + 15 fields, history 100, attention 80-40, MLP 1024-512-256."""

    def __init__(self, shape: Shape, attention: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.attention = Attention(attention)
        self.mlp = mlp((shape.user + shape.item + 1) * DIMENSION, hidden)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = self.attention(features["item"][:, :DIMENSION], features["history"], features["mask"])
        flat = torch.cat([features["user"], features["item"], pooled], dim=-1)
        return {"click": self.mlp(flat).squeeze(-1)}

    def heads(self) -> dict[str, list[nn.Linear]]:
        return {"click": [self.mlp[-1]]}


class CrossNet(Heads):
    """DCN-V2, parallel: three full cross layers beside an MLP, over fields and the mean of the history."""

    def __init__(self, shape: Shape, hidden: tuple[int, ...]) -> None:
        super().__init__()
        width = (shape.user + shape.item + 1) * DIMENSION
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.mlp = mlp(width, hidden)
        self.head = nn.Linear(width, 1)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = features["mask"].to(features["history"].dtype).unsqueeze(-1)
        pooled = (features["history"] * weight).sum(1) / weight.sum(1).clamp(min=1)
        first = torch.cat([features["user"], features["item"], pooled], dim=-1)
        crossed = first
        for layer in self.crosses:
            crossed = first * layer(crossed) + crossed
        return {"click": (self.head(crossed) + self.mlp(first)).squeeze(-1)}

    def heads(self) -> dict[str, list[nn.Linear]]:
        return {"click": [self.head, self.mlp[-1]]}


class Mixture(Heads):
    """MMoE: four experts 256-128, two tasks with a gate and a tower each, over DIN's inputs."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = (shape.user + shape.item + 1) * DIMENSION
        self.attention = Attention((64, 32))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()) for _ in range(4)
        )
        self.gates = nn.ModuleList(nn.Linear(width, 4) for _ in range(2))
        self.towers = nn.ModuleList(mlp(128, (64,)) for _ in range(2))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = self.attention(features["item"][:, :DIMENSION], features["history"], features["mask"])
        flat = torch.cat([features["user"], features["item"], pooled], dim=-1)
        experts = torch.stack([expert(flat) for expert in self.experts], dim=1)
        mixed = [torch.einsum("re,red->rd", torch.softmax(gate(flat), dim=-1), experts) for gate in self.gates]
        click, buy = (tower(value).squeeze(-1) for tower, value in zip(self.towers, mixed, strict=True))
        return {"click": click, "buy": buy}

    def heads(self) -> dict[str, list[nn.Linear]]:
        return {name: [tower[-1]] for name, tower in zip(("click", "buy"), self.towers, strict=True)}


class UserTransformer(Heads):
    """Two encoder layers over the user's 200 events, their mean, and an MLP with user and item."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(DIMENSION, 2, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.mlp = mlp((shape.user + shape.item + 1) * DIMENSION, (512, 256))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        encoded = self.encoder(features["history"]).mean(dim=1)
        return {"click": self.mlp(torch.cat([features["user"], features["item"], encoded], dim=-1)).squeeze(-1)}

    def heads(self) -> dict[str, list[nn.Linear]]:
        return {"click": [self.mlp[-1]]}


@dataclass(frozen=True)
class Case:
    """A model under measurement."""

    name: str
    module: Heads
    shape: Shape = field(default_factory=Shape)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self.module.heads())

    @property
    def reads(self) -> tuple[str, ...]:
        """The features that its module looks at."""
        names = ("user", "history", "mask", "item")
        return tuple(name for name in names if name != "mask" or not isinstance(self.module, UserTransformer))


def cases() -> list[Case]:
    """Return the models in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    kuairand, long = Shape(user=5, item=7, length=50), Shape(length=200)
    found = [
        Case("reference", Reference(Shape(), (80, 40), (1024, 512, 256))),
        Case("KuaiRand DIN", Reference(kuairand, (64, 32), (256, 128)), kuairand),
        Case("KuaiRand DCNv2", CrossNet(kuairand, (256, 128)), kuairand),
        Case("MMoE", Mixture(Shape())),
        Case("user transformer", UserTransformer(long), long),
    ]
    for case in found:
        keep_signal(case.module)
        spread(case.module.eval(), case.shape)
    return found


def keep_signal(module: nn.Module) -> None:
    """Draw weights such that a signal is as strong behind a rectifier as before it (He et al., 2015).

    Behind PyTorch's default ones little of an input is left after a few layers, whatever it was.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def spread(module: Heads, shape: Shape) -> None:
    """Scale the last layers so that logits have the mean -2 and the deviation 1.5, as those of trained models have.

    Logits of random weights are almost one number: how well a precision keeps their order would say nothing.
    """
    with torch.inference_mode():
        requests = [module(expanded(shape.features(200, seed), 200)) for seed in range(1000, 1020)]
    for name, layers in module.heads().items():
        logits = torch.cat([each[name] for each in requests])
        scale = 1.5 / float(logits.std())
        with torch.no_grad():
            for layer in layers:
                layer.weight.mul_(scale)
                layer.bias.mul_(scale)
            layers[0].bias.sub_(2.0 + scale * float(logits.mean()))


def expanded(features: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Return features with all rows each: what a request's are when they are tiled."""
    return {name: value.expand(rows, *value.shape[1:]).contiguous() for name, value in features.items()}
