"""FinalMLP: two MLPs over differently gated inputs, fused bilinearly (Mao et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.field_attention import check_heads
from bowerbird.models.flat import FlatInputs
from bowerbird.models.gates import FeatureGate, context_inputs
from bowerbird.models.layers import MLP, split_tasks
from bowerbird.models.ranker import Ranker, RateFitted, log_odds
from bowerbird.models.sequences import mean_histories
from bowerbird.models.split_rows import narrow_features
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class FinalMLP(Ranker):
    """Two streams: each gates every value of the inputs by a context of its own and goes through an MLP of its own.

    Their outputs meet in a bilinear form of several heads.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes, and what each stream's gate looks at."""

        dimension: int = 16
        first: tuple[int, ...] = (256,)
        """Sizes of the first stream's MLP; the last must be a multiple of ``heads``, as the second's."""
        second: tuple[int, ...] = (128,)
        first_dropout: float = 0.1
        second_dropout: float = 0.1
        batch_norm: bool = False
        heads: int = 4
        """Blocks of the bilinear form."""
        gates: bool = True
        gate_hidden: tuple[int, ...] = (64,)
        first_context: tuple[str, ...] = ()
        """Categories that the first gate looks at, such as the user; none for a gate that is alike for all rows."""
        second_context: tuple[str, ...] = ()
        """Categories that the second gate looks at, such as the item."""
        own_context: bool = False
        """Whether the contexts' categories have embeddings for the gates alone: the columns beyond ``dimension`` of
        their rows, so set ``embedding.dimensions`` of their vocabularies to twice ``dimension``."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> FinalMLP:
            """Return a freshly initialised model; raises InputError for an unknown context or sizes that do not fit."""
            return FinalMLP(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.names = tuple(task.name for task in tasks)
        contexts = (config.first_context, config.second_context) if config.gates else ((), ())
        own = config.dimension if config.own_context and config.gates else None
        self.stream_inputs = context_inputs(inputs, contexts, own)
        self.flat = FlatInputs(self.stream_inputs, mean_histories(self.stream_inputs), config.dimension)
        self.gates = nn.ModuleList()
        if config.gates:
            self.gates.extend(
                FeatureGate(inputs, context, own, config.dimension, config.gate_hidden, self.flat.width)
                for context in contexts
            )
        self.first = MLP(self.flat.width, config.first, config.first_dropout, config.batch_norm)
        self.second = MLP(self.flat.width, config.second, config.second_dropout, config.batch_norm)
        self.fusion = BilinearFusion(self.first.width, self.second.width, config.heads, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        flat = self.flat(narrow_features(features, self.stream_inputs))
        first, second = [flat * gate(features) for gate in self.gates] or [flat, flat]
        return split_tasks(self.fusion(self.first(first), self.second(second)), self.names)


class BilinearFusion(RateFitted):
    """b + w·x + v·y + Σ_h x_hᵀ W_h y_h over ``heads`` equal blocks of x and y: two vectors to [rows, tasks]."""

    def __init__(self, first: int, second: int, heads: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        check_heads(first, heads)
        check_heads(second, heads)
        self.tasks = tuple(task.name for task in tasks)
        self.heads = heads
        self.of_first = Linear(first, len(tasks))
        self.of_second = Linear(second, len(tasks), bias=False)
        a, b = first // heads, second // heads
        spread = (2.0 / (heads * a * b + len(tasks))) ** 0.5
        self.weight = nn.Parameter(torch.randn(heads, a, b, len(tasks)) * spread)

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the biases to the tasks' log odds."""
        with torch.no_grad():
            self.of_first.bias.copy_(torch.tensor([log_odds(rates[name]) for name in self.tasks]))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return [rows, tasks]."""
        turned = torch.einsum("rha,habt->rhbt", torch.unflatten(first, -1, (self.heads, -1)), self.weight)
        products = torch.einsum("rhbt,rhb->rt", turned, torch.unflatten(second, -1, (self.heads, -1)))
        logits: Tensor = self.of_first(first) + self.of_second(second) + products
        return logits
