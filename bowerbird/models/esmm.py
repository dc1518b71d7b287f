"""ESMM: conversion given click, trained on the entire space of exposures (Ma et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP
from bowerbird.models.ranker import Ranker
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
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention))
        self.towers = nn.ModuleList(_tower(self.flat.width, config) for _ in tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task, each over all exposures."""
        flat = self.flat(features)
        logits: dict[str, Tensor] = {}
        for task, tower in zip(self.tasks, self.towers, strict=True):
            own = tower(flat).squeeze(-1)
            logits[task.name] = own if task.given is None else logit_of_product(logits[task.given], own)
        return logits


def _tower(width: int, config: ESMM.Config) -> nn.Sequential:
    hidden = MLP(width, config.hidden, config.dropout)
    return nn.Sequential(hidden, nn.Linear(hidden.width, 1))


def logit_of_product(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of σ(first) σ(second) without leaving log space.

    log p = log σ(a) + log σ(b) and 1 - p = σ(-a) + σ(a) σ(-b).
    """
    log_product = functional.logsigmoid(first) + functional.logsigmoid(second)
    log_rest = torch.logaddexp(
        functional.logsigmoid(-first), functional.logsigmoid(first) + functional.logsigmoid(-second)
    )
    return log_product - log_rest
