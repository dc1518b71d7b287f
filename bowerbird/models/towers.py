"""One tower per task: an MLP and a logit; a task that is given another may be multiplied with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.models.layers import MLP
from bowerbird.models.ranker import RateFitted, log_odds
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class Tower(RateFitted):
    """An MLP and one logit, [rows, width] → [rows, 1].

    With ``conditional`` it is the logit of the task given what it is given, or else of the task over all exposures.
    """

    def __init__(
        self, width: int, hidden: tuple[int, ...], dropout: float, batch_norm: bool, task: Task, conditional: bool
    ) -> None:
        super().__init__()
        self.task = task
        self.given = task.given if conditional else None
        self.hidden = MLP(width, hidden, dropout, batch_norm)
        self.logit = Linear(self.hidden.width, 1)

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the bias to the log odds of the task, among exposures where what it is given happened."""
        given = 1.0 if self.given is None else rates[self.given]
        with torch.no_grad():
            self.logit.bias.fill_(log_odds(rates[self.task.name] / max(given, 1e-4)))

    def forward(self, flat: Tensor) -> Tensor:
        """Return [rows, 1]."""
        logit: Tensor = self.logit(self.hidden(flat))
        return logit


class Towers(nn.ModuleList):
    """A ``Tower`` per task: a list of [rows, width], one for each, to logits [rows] over all exposures by task.

    A conditional tower is multiplied with what its task is given.
    """

    def __init__(
        self,
        width: int,
        hidden: tuple[int, ...],
        dropout: float,
        batch_norm: bool,
        tasks: tuple[Task, ...],
        conditional: bool,
    ) -> None:
        super().__init__(Tower(width, hidden, dropout, batch_norm, task, conditional) for task in tasks)
        self.tasks = tuple((task.name, task.given if conditional else None) for task in tasks)

    def forward(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        logits: dict[str, Tensor] = {}
        for (name, given), tower, hidden in zip(self.tasks, self, inputs, strict=True):
            own = tower(hidden).squeeze(-1)
            logits[name] = own if given is None else logit_of_product(logits[given], own)
        return logits


def logit_of_product(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of σ(first) σ(second) without leaving log space.

    log p = log σ(a) + log σ(b) and 1 - p = σ(-a) + σ(a) σ(-b).
    """
    log_product = functional.logsigmoid(first) + functional.logsigmoid(second)
    log_rest = torch.logaddexp(
        functional.logsigmoid(-first), functional.logsigmoid(first) + functional.logsigmoid(-second)
    )
    return log_product - log_rest
