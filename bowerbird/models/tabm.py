"""TabM: one MLP that acts as an ensemble, over piecewise-linear numbers (Gorishniy et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.deferred import stretches
from bowerbird.embedding.inputs import Inputs, SequenceInput
from bowerbird.models.attention import HeadedHistory, matching_categories
from bowerbird.models.numbers import NumberEmbedding
from bowerbird.models.ranker import Ranker, RateFitted, log_odds
from bowerbird.models.sequences import History, MeanHistory, joined
from bowerbird.models.task import Task
from bowerbird.models.vectors import vector_embeddings


class TabM(Ranker):
    """An ensemble whose members share every matrix and differ in a scale per hidden unit and in their heads.

    Each number is embedded through piecewise-linear bins of its own, which is what lets an MLP see thresholds
    as trees do; histories go through multi-head target attention. Members are trained one by one (``members``) and
    answer with their mean logit (``forward``).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 8
        members: int = 8
        hidden: tuple[int, ...] = (192, 96)
        dropout: float = 0.2
        input_dropout: float = 0.1
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""
        number_dimension: int = 8
        """Width of each number's embedding."""
        attention_only: tuple[str, ...] = ()
        """Categories that take part in attention alone: ids with few samples each, which an MLP learns by heart."""
        heads: int = 4
        """Heads of target attention over each sequence."""
        head_dimension: int = 16
        value_dimension: int = 16
        """Width of what a head reads of a sequence."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> TabM:
            """Return a freshly initialised model."""
            return TabM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        histories = [_history(inputs, sequence, config) for sequence in inputs.sequences]
        flat = [item for item in inputs.categories if item.name not in config.attention_only]
        self.categories = tuple(item.name for item in flat)
        self.histories = nn.ModuleList(histories)
        names = tuple(item.name for item in inputs.numbers)
        self.numbers = nn.ModuleList([NumberEmbedding(names, config.bins, config.number_dimension)] if names else [])
        self.vectors = vector_embeddings(inputs, config.number_dimension)
        width = sum(item.dimension for item in flat) + len(names) * config.number_dimension
        width += sum(module.width for module in histories) + len(inputs.vectors) * config.number_dimension
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.trunk = EnsembleMLP(width, config)
        self.heads = EnsembleHeads(config.hidden[-1], config.members, tasks)

    def members(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each member's logits [rows, members] by task."""
        parts = stretches(features, self.categories)
        parts += [functional.relu(module(features)).flatten(1) for module in self.numbers]
        parts += [module(features).flatten(1) for module in self.vectors]
        flat = joined(parts, [module(features) for module in self.histories])
        hidden = self.trunk(self.input_dropout(flat))
        logits: dict[str, Tensor] = self.heads(hidden)
        return logits

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the members' mean logits [rows] by task."""
        return {task: logits.mean(dim=1) for task, logits in self.members(features).items()}


def _history(inputs: Inputs, sequence: SequenceInput, config: TabM.Config) -> History:
    query = matching_categories(inputs, sequence)
    if not query:
        return MeanHistory(sequence)
    return HeadedHistory(sequence, query, config.heads, config.head_dimension, config.value_dimension, config.bins)


class EnsembleMLP(nn.Module):
    """[rows, width] → [rows, members, last hidden size]; each layer's output is scaled per member.

    The first layer's scales begin apart, so that the members see different mixtures (BatchEnsemble, Wen et
    al., 2020); the first product is shared by all members.
    """

    def __init__(self, width: int, config: TabM.Config) -> None:
        super().__init__()
        self.linears = nn.ModuleList()
        self.scales = nn.ParameterList()
        for depth, size in enumerate(config.hidden):
            self.linears.append(nn.Linear(width, size))
            spread = 0.5 if depth == 0 else 0.1
            self.scales.append(nn.Parameter(1 + spread * torch.randn(config.members, size)))
            width = size
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, flat: Tensor) -> Tensor:
        """Return [rows, members, last hidden size]."""
        hidden = flat.unsqueeze(1)
        for linear, scale in zip(self.linears, self.scales, strict=True):
            hidden = self.dropout(functional.relu(linear(hidden) * scale))
        return hidden


class EnsembleHeads(RateFitted):
    """A linear logit per member and task: [rows, members, width] → [rows, members] by task."""

    def __init__(self, width: int, members: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.names = tuple(task.name for task in tasks)
        self.weight = nn.Parameter(torch.randn(members, width, len(tasks)) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(members, len(tasks)))

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set every member's biases to the tasks' log odds."""
        with torch.no_grad():
            self.bias.copy_(torch.tensor([log_odds(rates[name]) for name in self.names]).expand_as(self.bias))

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Return logits [rows, members] by task."""
        logits = torch.einsum("rmh,mht->rmt", hidden, self.weight) + self.bias
        return {name: logits[:, :, position] for position, name in enumerate(self.names)}
