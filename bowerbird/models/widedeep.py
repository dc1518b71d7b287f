"""Wide & Deep: a linear model that memorises beside an MLP that generalises (Cheng et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.first_order import FirstOrder, without_weights
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads, split_tasks
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.split_rows import narrow_features
from bowerbird.models.task import Task


class WideDeep(Ranker):
    """A weight per key (wide) and an MLP over the embedded inputs (deep), their logits added.

    The paper's wide part lives on crossed categories: declare them as features of the plan, and they are inputs like
    any other. A key's wide weights are the last columns of its row, one per task.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        """Width of rows; the last columns, one per task, are the wide part's weights."""
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        batch_norm: bool = False

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> WideDeep:
            """Return a freshly initialised model; raises InputError where rows are too narrow."""
            return WideDeep(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.names = tuple(task.name for task in tasks)
        self.deep_inputs = without_weights(inputs, tasks)
        self.wide = FirstOrder(inputs, tasks, bias=False)
        self.flat = FlatInputs(self.deep_inputs, mean_histories(self.deep_inputs), config.dimension - len(tasks))
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.heads = TaskHeads(self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        deep = self.heads(self.mlp(self.flat(narrow_features(features, self.deep_inputs))))
        wide = split_tasks(self.wide(features), self.names)
        return {name: deep[name] + logit for name, logit in wide.items()}
