"""FM: a weight per key and the products of all pairs of fields (Rendle, 2010)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.fields import FieldVectors
from bowerbird.models.first_order import FirstOrder, without_weights
from bowerbird.models.layers import split_tasks
from bowerbird.models.pairs import PairLogits
from bowerbird.models.ranker import Ranker
from bowerbird.models.split_rows import narrow_features
from bowerbird.models.task import Task


class FM(Ranker):
    """Bias, first-order weights, and inner products of the fields' factors, added up.

    A row holds a key's factors and, in its last columns, its first-order weight for each task.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        """Width of rows; the last columns, one per task, are the first-order weights, and the others factors."""
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> FM:
            """Return a freshly initialised model; raises InputError where rows are too narrow."""
            return FM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.names = tuple(task.name for task in tasks)
        self.factors = without_weights(inputs, tasks)
        dimension = config.dimension - len(tasks)
        self.first_order = FirstOrder(inputs, tasks, bias=True)
        self.fields = FieldVectors(self.factors, dimension, config.bins)
        self.pairs = PairLogits(dimension, len(tasks))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        fields = self.fields(narrow_features(features, self.factors))
        return split_tasks(self.first_order(features) + self.pairs(fields), self.names)
