"""Two towers for recall: a vector of the request and one of the item (Yi et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs
from bowerbird.errors import InputError
from bowerbird.models.flat import FlatInputs
from bowerbird.models.frequency import StreamingFrequency
from bowerbird.models.in_batch import in_batch_softmax
from bowerbird.models.layers import MLP
from bowerbird.models.ranker import Ranker, RateFitted, Targets, TrainingPass, log_odds
from bowerbird.models.sequences import mean_histories
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import Stage


class TwoTower(Ranker):
    """The cosine of a request's vector and an item's, each from the inputs of its own stage.

    What depends on request and item together is not read: the vectors must stand alone, for a nearest-neighbour
    search. They are trained by a softmax over the batch's items (``auxiliary_loss``); each task's logit is an affine
    function of the cosine, trained on the task's label.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes, and how the vectors are trained."""

        dimension: int = 16
        hidden: tuple[int, ...] = (256,)
        """Sizes of each tower's MLP."""
        width: int = 64
        """Width of the vectors."""
        dropout: float = 0.0
        batch_norm: bool = False
        positive: str = ""
        """The task whose positive exposures the softmax learns from; the first one by default."""
        temperature: float = 0.05
        """What cosines are divided by before the softmax."""
        in_batch: float = 1.0
        """Factor of the softmax's loss."""
        pointwise: bool = True
        """Whether the tasks' labels train the vectors, too, or only the affine functions."""
        frequency_rate: float = 0.01
        """How fast the estimate of items' frequencies forgets."""
        frequency_buckets: int = 262_144
        """Size of that estimate: several times the number of items."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> TwoTower:
            """Return a freshly initialised model; raises InputError where one side has no input."""
            return TwoTower(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        names = [task.name for task in tasks]
        self.positive = config.positive or names[0]
        if self.positive not in names:
            what = f"There is no task {self.positive!r} to learn vectors from."
            raise InputError(what, nearest(self.positive, names))
        self.config = config
        self.request = TowerVectors(_of_stage(inputs, "request"), config)
        self.item = TowerVectors(_of_stage(inputs, "item"), config)
        self.heads = CosineHeads(tasks)
        self.frequency = StreamingFrequency(config.frequency_buckets, config.frequency_rate)

    def request_vectors(self, features: dict[str, Tensor]) -> Tensor:
        """Return the requests' vectors of length one, [rows, width]; only inputs of stage *request* are read."""
        vectors: Tensor = self.request(features)
        return vectors

    def item_vectors(self, features: dict[str, Tensor]) -> Tensor:
        """Return the items' vectors of length one, [rows, width]; only inputs of stage *item* are read."""
        vectors: Tensor = self.item(features)
        return vectors

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        logits: dict[str, Tensor] = self.heads(self.request_vectors(features), self.item_vectors(features))
        return logits

    def training_pass(self, features: dict[str, Tensor]) -> TrainingPass:
        """Return the logits [rows, 1] by task, and both sides' vectors."""
        vectors = {"request": self.request_vectors(features), "item": self.item_vectors(features)}
        given = vectors if self.config.pointwise else {name: value.detach() for name, value in vectors.items()}
        logits = self.heads(given["request"], given["item"])
        return TrainingPass({task: values.unsqueeze(1) for task, values in logits.items()}, vectors)

    def auxiliary_loss(self, done: TrainingPass, targets: Targets) -> Tensor:
        """Return the in-batch softmax's loss over the positive rows; in training the frequencies learn of the batch.

        Every row's item is a candidate, whatever its label: the batch is a sample of what was exposed.
        """
        if self.training:
            self.frequency.observe(targets.item)
        request, item = done.extras["request"].float(), done.extras["item"].float()
        scores = request @ item.T / self.config.temperature
        weight = targets.weight * (targets.labels[self.positive] == 1)
        loss = in_batch_softmax(scores, targets.item, self.frequency.probability(targets.item), weight)
        return self.config.in_batch * loss


class TowerVectors(nn.Module):
    """An MLP over the inputs of one stage, and a linear map to a vector of length one: [rows, width]."""

    def __init__(self, inputs: Inputs, config: TwoTower.Config) -> None:
        super().__init__()
        self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
        self.mlp = MLP(self.flat.width, config.hidden, config.dropout, config.batch_norm)
        self.linear = Linear(self.mlp.width, config.width)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, width]."""
        return functional.normalize(self.linear(self.mlp(self.flat(features))), dim=-1)


class CosineHeads(RateFitted):
    """A scale and a bias per task: the cosine of two vectors as logits [rows] by task."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.names = tuple(task.name for task in tasks)
        self.scale = nn.Parameter(torch.ones(len(tasks)))
        self.bias = nn.Parameter(torch.zeros(len(tasks)))

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the biases to the tasks' log odds."""
        with torch.no_grad():
            self.bias.copy_(torch.tensor([log_odds(rates[name]) for name in self.names]))

    def forward(self, request: Tensor, item: Tensor) -> dict[str, Tensor]:
        """Return logits [rows] by task."""
        cosine = (request * item).sum(dim=-1)
        return {name: cosine * self.scale[place] + self.bias[place] for place, name in enumerate(self.names)}


def _of_stage(inputs: Inputs, stage: Stage) -> Inputs:
    """Return the inputs of one stage; raises InputError where there is none."""
    chosen = inputs.of_stages(stage)
    if not (chosen.categories or chosen.numbers or chosen.sequences or chosen.vectors):
        raise InputError(
            f"The plan has no feature of the {stage} alone.",
            "Declare one, such as its key, or choose a model that reads both sides together.",
        )
    return chosen
