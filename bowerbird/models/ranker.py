"""The contract of every model: plain PyTorch from named tensors to one logit per task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.task import Task, check_tasks

NumberColumns = Mapping[str, npt.NDArray[np.float32]]
"""Values of number tensors in the training set, flat, by tensor name (ages and sequence fields too)."""


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

    def fit_numbers(self, columns: NumberColumns) -> None:
        """Fit every number encoding on the training set's values; call it once, before training."""
        for module in self.modules():
            if isinstance(module, NumberFitted):
                module.fit(columns)


class NumberFitted(nn.Module):
    """A module with buffers that are fitted on number columns before training."""

    @abstractmethod
    def fit(self, columns: NumberColumns) -> None:
        """Set the buffers from the training set's values."""


class RankerConfig(Protocol):
    """A model's typed configuration, which builds its owner."""

    @property
    def dimension(self) -> int:
        """The width of embeddings that the model is meant for."""
        ...

    def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> Ranker:
        """Return a freshly initialised model."""
        ...
