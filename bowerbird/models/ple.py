"""PLE: experts of each task beside shared ones, extracted layer by layer (Tang et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.models.experts import Experts, Gate
from bowerbird.models.flat import FlatInputs
from bowerbird.models.ranker import Ranker
from bowerbird.models.sequences import attentive_histories
from bowerbird.models.task import Task
from bowerbird.models.towers import Towers


class PLE(Ranker):
    """Layers of customised gate control, then a tower per task; with one layer it is the paper's CGC."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        attention: tuple[int, ...] = (64, 32)
        """Sizes of the target attention over sequences."""
        layers: int = 2
        """Extraction layers."""
        shared_experts: int = 2
        """Experts of each layer that all tasks mix."""
        task_experts: int = 2
        """Experts of each layer that one task mixes alone."""
        expert: tuple[int, ...] = (128,)
        """Sizes of each expert."""
        tower: tuple[int, ...] = (64,)
        """Sizes of each task's tower."""
        dropout: float = 0.1
        batch_norm: bool = False
        conditional: bool = False
        """Whether a task that is given another is multiplied with it, as in ESMM, or answers by itself."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> PLE:
            """Return a freshly initialised model; raises InputError where there is no expert."""
            return PLE(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, attentive_histories(inputs, config.attention), config.dimension)
        self.extractions = nn.ModuleList()
        width = self.flat.width
        for depth in range(config.layers):
            is_last = depth == config.layers - 1
            self.extractions.append(ExtractionLayer(width, len(tasks), config, with_shared=not is_last))
            width = config.expert[-1]
        options = (config.tower, config.dropout, config.batch_norm)
        self.towers = Towers(width, *options, tasks, config.conditional)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits [rows] by task, each over all exposures."""
        flat = self.flat(features)
        paths = [flat] * (len(self.towers) + 1)
        for extraction in self.extractions:
            paths = extraction(paths)
        logits: dict[str, Tensor] = self.towers(paths[: len(self.towers)])
        return logits


class ExtractionLayer(nn.Module):
    """One path per task, then, with ``with_shared``, the shared path: a list of [rows, width] → [rows, last size].

    A task's gate mixes its own experts and the shared ones, by its own path; the shared path's mixes all experts. The
    last layer needs no shared path.
    """

    def __init__(self, width: int, tasks: int, config: PLE.Config, *, with_shared: bool) -> None:
        super().__init__()
        options = (width, config.expert, config.dropout, config.batch_norm)
        self.own = nn.ModuleList(Experts(config.task_experts, *options) for _ in range(tasks))
        self.shared = Experts(config.shared_experts, *options)
        self.gates = nn.ModuleList(Gate(width, config.task_experts + config.shared_experts) for _ in range(tasks))
        total = tasks * config.task_experts + config.shared_experts
        self.shared_gate = nn.ModuleList([Gate(width, total)] if with_shared else [])

    def forward(self, paths: list[Tensor]) -> list[Tensor]:
        """Return the paths' next vectors."""
        own = [experts(path) for experts, path in zip(self.own, paths[:-1], strict=True)]
        shared = self.shared(paths[-1])
        outputs = [
            gate(path, torch.cat([experts, shared], dim=1))
            for gate, path, experts in zip(self.gates, paths[:-1], own, strict=True)
        ]
        return outputs + [gate(paths[-1], torch.cat([*own, shared], dim=1)) for gate in self.shared_gate]
