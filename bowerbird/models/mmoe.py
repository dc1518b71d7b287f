"""MMoE: experts that all tasks share, mixed by a gate per task (Ma et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.experts import Experts, Gate
from bowerbird.models.flat import FlatInputs
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import attentive_histories
from bowerbird.models.task import Task
from bowerbird.models.towers import Towers


class MMoE(Ranker):
    """Each task mixes the experts by a softmax over the inputs and reads the mixture with a tower of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        attention: tuple[int, ...] = (64, 32)
        """Sizes of the target attention over sequences."""
        experts: int = 4
        expert: tuple[int, ...] = (256, 128)
        """Sizes of each expert."""
        tower: tuple[int, ...] = (64,)
        """Sizes of each task's tower."""
        dropout: float = 0.1
        batch_norm: bool = False
        conditional: bool = False
        """Whether a task that is given another is multiplied with it, as in ESMM, or answers by itself."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> MMoE:
            """Return a freshly initialised model; raises InputError where there is no expert."""
            return MMoE(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention), config.dimension)
        self.experts = Experts(config.experts, self.flat.width, config.expert, config.dropout, config.batch_norm)
        self.gates = nn.ModuleList(Gate(self.flat.width, config.experts) for _ in tasks)
        options = (config.tower, config.dropout, config.batch_norm)
        self.towers = Towers(self.experts.width, *options, tasks, config.conditional)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task, each over all exposures."""
        flat = self.flat(features)
        experts = self.experts(flat)
        logits: dict[str, Tensor] = self.towers([gate(flat, experts) for gate in self.gates])
        return logits
