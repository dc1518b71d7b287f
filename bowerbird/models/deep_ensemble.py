"""Deep ensemble: towers of one shape that begin apart and answer together (Lakshminarayanan et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.ranker import Ranker
from bowerbird.models.tabm import TabM
from bowerbird.models.task import Task


class DeepEnsemble(Ranker):
    """Several towers over the same embedding tables; each is trained on its own logits, the answer is their mean.

    One module, one export: averaging what differently initialised towers get wrong costs their number in time
    and buys accuracy where samples are few.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How many towers, and the shape of each."""

        towers: int = 3
        tower: TabM.Config = field(default_factory=lambda: TabM.Config(members=1))

        @property
        def dimension(self) -> int:
            """The width of embeddings that the model is meant for."""
            return self.tower.dimension

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> DeepEnsemble:
            """Return a freshly initialised model."""
            return DeepEnsemble(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.towers = nn.ModuleList([config.tower.build(inputs, tasks) for _ in range(config.towers)])

    def members(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each tower's logits [rows, members] by task."""
        answers: list[dict[str, Tensor]] = [tower.members(features) for tower in self.towers]  # type: ignore[operator]
        return {task.name: torch.cat([answer[task.name] for answer in answers], dim=1) for task in self.tasks}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean logits [rows] by task."""
        return {task: logits.mean(dim=1) for task, logits in self.members(features).items()}
