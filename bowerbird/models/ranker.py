"""The contract of every model: plain PyTorch from named tensors to one logit per task."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.task import Task, check_tasks

NumberColumns = Mapping[str, npt.NDArray[np.float32]]
"""Values of number tensors in the training set, flat, by tensor name (ages and sequence fields too)."""


@dataclass(frozen=True)
class Targets:
    """What a batch is trained towards, beside its features; all tensors have ``rows`` rows.

    ``labels`` are float32 by task, NaN while immature; ``weight`` is float32. ``read_item`` says which items the rows
    show; few models ask.
    """

    labels: Mapping[str, Tensor]
    weight: Tensor
    read_item: Callable[[], Tensor]

    @cached_property
    def item(self) -> Tensor:
        """The items' 64-bit keys, as int64 [rows]."""
        return self.read_item()


@dataclass(frozen=True)
class TrainingPass:
    """One pass in training: logits [rows, members] to compare with labels, and what ``auxiliary_loss`` needs of it."""

    logits: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)


class Ranker(nn.Module):
    """A dense module over the tensors of ``Inputs``.

    ``forward`` takes ``dict[str, Tensor]`` and returns logits float32 [rows] by task, each of the
    probability that the label happens after an exposure (not given another label). It has no control flow
    that depends on data, so that ``torch.export`` captures it for any number of rows.
    """

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        check_tasks(tasks)
        self.inputs = inputs
        self.tasks = tasks

    @abstractmethod
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits float32 [rows] by task."""

    def members(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the logits that are trained, float32 [rows, members]: an ensemble's members one by one."""
        return {task: logits.unsqueeze(1) for task, logits in self.forward(features).items()}

    def training_pass(self, features: dict[str, Tensor]) -> TrainingPass:
        """Return what a training step computes from features: ``members``, and extras for ``auxiliary_loss``."""
        return TrainingPass(self.members(features))

    def auxiliary_loss(self, done: TrainingPass, targets: Targets) -> Tensor:
        """Return a scalar that is added to the tasks' losses; 0 unless a model has a loss of its own.

        It is called once per training step, on what ``training_pass`` returned for the same batch.
        """
        return torch.zeros(())

    def fit_numbers(self, columns: NumberColumns) -> None:
        """Fit every number encoding on the training set's values; call it once, before training."""
        for module in self.modules():
            if isinstance(module, NumberFitted):
                module.fit(columns)

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Begin every task's bias at its base rate (a probability); call it once, before training."""
        for module in self.modules():
            if isinstance(module, RateFitted):
                module.fit_rates(rates)


class NumberFitted(nn.Module):
    """A module with buffers that are fitted on number columns before training."""

    @abstractmethod
    def fit(self, columns: NumberColumns) -> None:
        """Set the buffers from the training set's values."""


class RateFitted(nn.Module):
    """A module whose biases begin at the tasks' base rates, so that the first steps do not learn them."""

    @abstractmethod
    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the biases; ``rates`` are probabilities by task."""


def log_odds(rate: float) -> float:
    """Return log(p / (1 - p)), with p kept within [0.0001, 0.9999]."""
    kept = min(max(rate, 1e-4), 1 - 1e-4)
    return math.log(kept / (1 - kept))


class RankerConfig(Protocol):
    """A model's typed configuration, which builds its owner."""

    @property
    def dimension(self) -> int:
        """The width of embeddings that the model is meant for."""
        ...

    def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> Ranker:
        """Return a freshly initialised model."""
        ...
