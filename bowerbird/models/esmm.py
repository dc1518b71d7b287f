"""ESMM: conversion given click, trained on the entire space of exposures (Ma et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.flat import FlatInputs
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import attentive_histories
from bowerbird.models.task import Task
from bowerbird.models.towers import Towers


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
        batch_norm: bool = False

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> ESMM:
            """Return a freshly initialised model."""
            return ESMM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention), config.dimension)
        options = (config.hidden, config.dropout, config.batch_norm)
        self.towers = Towers(self.flat.width, *options, tasks, conditional=True)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task, each over all exposures."""
        flat = self.flat(features)
        logits: dict[str, Tensor] = self.towers([flat] * len(self.towers))
        return logits
