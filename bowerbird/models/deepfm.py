"""DeepFM: a factorisation machine beside an MLP (Guo et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.fields import FieldVectors
from bowerbird.models.first_order import FirstOrder, without_weights
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads, factorisation_pairs, split_tasks
from bowerbird.models.pairs import PairLogits
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import mean_histories
from bowerbird.models.split_rows import narrow_features
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class DeepFM(Ranker):
    """First-order terms, pairwise products of field vectors, and an MLP over the same fields.

    First-order weights are a linear map of the embeddings, or with ``own_weights`` a weight per key; each of the
    products' components has a weight, or with ``own_weights`` and one task they are summed, as in the paper. Fields of
    another width than the first category's, and pooled sequences, reach the products through a linear map of their
    own.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        """Width of rows; with ``own_weights`` the last columns, one per task, are the first-order weights."""
        hidden: tuple[int, ...] = (256, 128)
        dropout: float = 0.1
        batch_norm: bool = False
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""
        own_weights: bool = False
        """Whether each key has a first-order weight of its own."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> DeepFM:
            """Return a freshly initialised model."""
            return DeepFM(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.names = tuple(task.name for task in tasks)
        self.factors = without_weights(inputs, tasks) if config.own_weights else inputs
        dimension = config.dimension - (len(tasks) if config.own_weights else 0)
        self.flat = FlatInputs(self.factors, mean_histories(self.factors), dimension)
        self.fields = FieldVectors(self.factors, dimension, config.bins)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.own_weights = config.own_weights
        if config.own_weights:
            self.first_order: nn.Module = FirstOrder(inputs, tasks, bias=False)
            self.pairs: nn.Module = PairLogits(dimension, len(tasks))
        else:
            self.first_order = Linear(self.flat.width, len(tasks), bias=False)
            self.pairs = Linear(dimension, len(tasks), bias=False)
            nn.init.ones_(self.pairs.weight)
        self.heads = TaskHeads(self.mlp.width, tasks)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        factors = narrow_features(features, self.factors) if self.own_weights else features
        flat, fields = self.flat(factors), self.fields(factors)
        if self.own_weights:
            wide = self.first_order(features) + self.pairs(fields)
        else:
            wide = self.first_order(flat) + self.pairs(factorisation_pairs(fields))
        deep = self.heads(self.mlp(flat))
        return {name: deep[name] + logit for name, logit in split_tasks(wide, self.names).items()}
