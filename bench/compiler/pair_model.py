"""The reference ranker's pair stage for the benchmark: our program, the same graph in PyTorch, and their inputs.

20 user and 15 item fields of 16 numbers, target attention 80-40-1 (ReLU) over 100 events, then 1024-512-256-1. Of the
first layer only the attention's 16 numbers are left per candidate: the user's part is one row, the item's is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.kernels.pair import StoredRows

EVENTS, KEY, FIRST, SECOND = 100, 16, 80, 40
HIDDEN = (1024, 512, 256)
STORED = 20_000
"""Items that are stored: their partial sums take 43 MB in bfloat16, more than the caches hold."""
PRODUCTS = (
    (EVENTS, KEY, FIRST), (EVENTS, FIRST, SECOND), (EVENTS, SECOND, 1),
    (1, KEY, 1024), (1, 1024, 512), (1, 512, 256), (1, 256, 1),
)  # fmt: skip
"""Rows, inputs and outputs of one candidate's products."""
MULTIPLY_ADDS = sum(rows * inputs * outputs for rows, inputs, outputs in PRODUCTS)
"""Of one candidate."""


class PairStage(nn.Module):
    """What is left per candidate, for dense inputs: query [N, 16], its part [N, 80], the item's partial [N, 1024]."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Linear(KEY, FIRST, bias=False)
        self.second, self.score = nn.Linear(FIRST, SECOND), nn.Linear(SECOND, 1)
        self.first = nn.Linear(KEY, HIDDEN[0], bias=False)
        self.hidden = nn.Linear(HIDDEN[0], HIDDEN[1])
        self.last = nn.Linear(HIDDEN[1], HIDDEN[2])
        self.head = nn.Linear(HIDDEN[2], 1)

    def forward(
        self, query: Tensor, query_part: Tensor, partial: Tensor, user: Tensor, history: Tensor, history_part: Tensor
    ) -> Tensor:
        """Return probabilities [N, 1]."""
        met = query[:, None, :] * history
        first = torch.relu(self.product(met) + query_part[:, None, :] + history_part)
        scores = self.score(torch.relu(self.second(first)))[:, :, 0]
        value = torch.relu(self.first(scores @ history) + partial + user)
        value = torch.relu(self.last(torch.relu(self.hidden(value))))
        return torch.sigmoid(self.head(value))


@dataclass(frozen=True)
class Inputs:
    """One request: dense float32 arrays by name, and the stored matrices with the candidates' rows."""

    dense: dict[str, np.ndarray]
    stored: dict[str, np.ndarray]
    rows: np.ndarray

    def request(self) -> dict[str, np.ndarray]:
        return {name: self.dense[name] for name in ("user", "history", "history_part")}

    def items(self, kind: Any) -> dict[str, Any]:
        """Return the candidates as stored rows of a format."""
        packed = {name: (StoredRows.pack(each, kind), self.rows) for name, each in self.stored.items()}
        return {"query": self.dense["query"], **packed}


def inputs(count: int, seed: int = 0) -> Inputs:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    rows = random.integers(0, STORED, count).astype(np.int64)
    stored = {"query_part": normal(STORED, FIRST), "partial": normal(STORED, HIDDEN[0])}
    dense = {
        "query": normal(count, KEY),
        **{name: each[rows] for name, each in stored.items()},
        "user": normal(HIDDEN[0]),
        "history": normal(EVENTS, KEY),
        "history_part": normal(EVENTS, FIRST),
    }
    return Inputs(dense, stored, rows)


def program(stage: PairStage) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return our spec and weights of the same graph."""
    weights = {name: value.detach().numpy() for name, value in stage.named_parameters()}
    item, request = {"stage": "item"}, {"stage": "request"}
    layers = [
        {"weight": "second.weight", "bias": "second.bias", "activation": "relu"},
        {"weight": "score.weight", "bias": "score.bias"},
    ]
    attention = {
        "op": "target_attention", "out": "interest", "in": ["query", "query_part"], "history": "history",
        "history_part": "history_part", "product": "product.weight", "activation": "relu", "layers": layers,
    }  # fmt: skip
    first = _layer("first", "interest", "relu") | {"add": ["user", "partial"]}
    del first["bias"]
    spec = {
        "inputs": [
            {"name": "query", "width": KEY, **item},
            {"name": "query_part", "width": FIRST, **item},
            {"name": "partial", "width": HIDDEN[0], **item},
            {"name": "user", "width": HIDDEN[0], **request},
            {"name": "history", "width": KEY, "length": True, **request},
            {"name": "history_part", "width": FIRST, "length": True, **request},
        ],
        "steps": [
            attention, first, _layer("hidden", "first", "relu"), _layer("last", "hidden", "relu"),
            _layer("head", "last", "sigmoid"),
        ],
        "outputs": ["head"],
    }  # fmt: skip
    return spec, weights


def _layer(name: str, given: str, activation: str) -> dict[str, Any]:
    return {
        "op": "linear", "out": name, "in": [given], "weight": f"{name}.weight", "bias": f"{name}.bias",
        "activation": activation,
    }  # fmt: skip
