"""ESMM: conversion given click, trained on the entire space of exposures (Ma et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP
from bowerbird.models.ranker import Ranker, RateFitted, log_odds
from bowerbird.models.sequences import attentive_histories
from bowerbird.models.task import Task


class ESMM(Ranker):
    """One tower per task over shared inputs; a task that is given another is multiplied with it.

    p(click and conversion) = p(click) p(conversion given click), in log space: the tower of the conversion
    is never trained on clicked exposures alone, so it is not biased by what was clicked.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        attention: tuple[int, ...] = (64, 32)
        hidden: tuple[int, ...] = (256, 128)
        """Sizes of each task's tower."""
        dropout: float = 0.1

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> ESMM:
            """Return a freshly initialised model."""
            return ESMM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention), config.dimension)
        self.towers = nn.ModuleList(Tower(self.flat.width, config, task) for task in tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task, each over all exposures."""
        flat = self.flat(features)
        logits: dict[str, Tensor] = {}
        for task, tower in zip(self.tasks, self.towers, strict=True):
            own = tower(flat).squeeze(-1)
            logits[task.name] = own if task.given is None else logit_of_product(logits[task.given], own)
        return logits


class Tower(RateFitted):
    """An MLP and one logit [rows, 1]: of the task given what it is given."""

    def __init__(self, width: int, config: ESMM.Config, task: Task) -> None:
        super().__init__()
        self.task = task
        self.hidden = MLP(width, config.hidden, config.dropout)
        self.logit = nn.Linear(self.hidden.width, 1)

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the bias to the log odds of the task among exposures where what it is given happened."""
        given = 1.0 if self.task.given is None else rates[self.task.given]
        with torch.no_grad():
            self.logit.bias.fill_(log_odds(rates[self.task.name] / max(given, 1e-4)))

    def forward(self, flat: Tensor) -> Tensor:
        """Return [rows, 1]."""
        logit: Tensor = self.logit(self.hidden(flat))
        return logit


def logit_of_product(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of σ(first) σ(second) without leaving log space.

    log p = log σ(a) + log σ(b) and 1 - p = σ(-a) + σ(a) σ(-b).
    """
    log_product = functional.logsigmoid(first) + functional.logsigmoid(second)
    log_rest = torch.logaddexp(
        functional.logsigmoid(-first), functional.logsigmoid(first) + functional.logsigmoid(-second)
    )
    return log_product - log_rest
