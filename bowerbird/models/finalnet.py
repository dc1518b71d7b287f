"""FinalNet: factorised interaction layers in two blocks that teach each other (Zhu et al., 2023, "FINAL")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.embedding.inputs import Inputs
from bowerbird.errors import InputError
from bowerbird.models.fields import FieldVectors
from bowerbird.models.hidden import HiddenActivation
from bowerbird.models.layers import TaskHeads
from bowerbird.models.ranker import Ranker, Targets, TrainingPass
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear

Residual = Literal["concat", "sum"]


class FinalNet(Ranker):
    """Two blocks over the same fields, the first one's gated; the answer is the mean of their logits.

    Each layer multiplies two linear maps of its input, so that a block of n layers reaches interactions of order 2ⁿ.
    In training each block also learns from the answer's probability (``auxiliary_loss``), as the paper's
    self-distillation does.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes."""

        dimension: int = 16
        first: tuple[int, ...] = (256, 128)
        """Sizes of the first block's layers; even numbers for the residual ``concat``."""
        second: tuple[int, ...] = (128,)
        """Sizes of the second block's layers; none for a single block."""
        first_dropout: float = 0.1
        second_dropout: float = 0.1
        batch_norm: bool = True
        gates: bool = True
        """Whether the first block sees each field twice: as it is, and times a gate made of all fields."""
        residual: Residual = "concat"
        """How a layer joins its linear and its product half."""
        distillation: float = 1.0
        """Factor of the blocks' loss against the answer."""
        bins: int = 16
        """Bins of the numbers' piecewise-linear encoding."""

        def build(self, inputs: Inputs, tasks: tuple[Task, ...]) -> FinalNet:
            """Return a freshly initialised model; raises InputError for a block without layers or odd sizes."""
            return FinalNet(inputs, tasks, self)

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], config: Config) -> None:
        super().__init__(inputs, tasks)
        if not config.first:
            raise InputError("The first block has no layer.", "Set first to sizes such as [256, 128].")
        self.fields = FieldVectors(inputs, config.dimension, config.bins)
        self.gate = FieldGate(self.fields.count) if config.gates else nn.Identity()
        self.distillation = config.distillation
        width = self.fields.count * config.dimension
        options = (config.batch_norm, config.residual)
        first = InteractionBlock(width * (2 if config.gates else 1), config.first, config.first_dropout, *options)
        blocks = [first]
        if config.second:
            blocks.append(InteractionBlock(width, config.second, config.second_dropout, *options))
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleList(TaskHeads(block.width, tasks) for block in blocks)

    def block_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each block's logits, [rows, blocks] by task."""
        fields = self.fields(features)
        inputs = [self.gate(fields), fields]
        answers = [
            head(block(given.flatten(1))) for given, block, head in zip(inputs, self.blocks, self.heads, strict=False)
        ]
        return {task.name: torch.stack([answer[task.name] for answer in answers], dim=1) for task in self.tasks}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the blocks' mean logits [rows] by task."""
        return {task: logits.mean(dim=1) for task, logits in self.block_logits(features).items()}

    def training_pass(self, features: dict[str, Tensor]) -> TrainingPass:
        """Return the mean logits [rows, 1] by task, and each block's, [rows, blocks]."""
        blocks = self.block_logits(features)
        return TrainingPass({task: logits.mean(dim=1, keepdim=True) for task, logits in blocks.items()}, blocks)

    def auxiliary_loss(self, done: TrainingPass, targets: Targets) -> Tensor:
        """Return Σ over tasks and blocks of the mean cross entropy of a block against the answer, which stands still.

        0 for a single block, which is its own answer.
        """
        total = torch.zeros(())
        if len(self.blocks) == 1:
            return total
        share = targets.weight / targets.weight.sum().clamp(min=1e-12)
        for task, blocks in done.extras.items():
            answer = torch.sigmoid(done.logits[task].detach().float()).expand_as(blocks)
            entropy = functional.binary_cross_entropy_with_logits(blocks.float(), answer, reduction="none")
            total = total + (entropy.sum(dim=1) * share).sum()
        return self.distillation * total


class FieldGate(nn.Module):
    """Fields beside their gated selves: [rows, fields, d] → [rows, 2 fields, d].

    Each component of the gates is a linear map of that component of all fields, and begins at one.
    """

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.linear = GateLinear(fields, fields)

    def forward(self, fields: Tensor) -> Tensor:
        """Return [rows, 2 fields, d]."""
        gates = self.linear(fields.transpose(1, 2)).transpose(1, 2)
        return torch.cat([fields, fields * gates], dim=1)


class GateLinear(nn.Linear):
    """A linear layer that begins as the constant one."""

    def reset_parameters(self) -> None:
        """Set the matrix to zero and the biases to one."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)


class InteractionBlock(nn.Sequential):
    """Factorised interaction, optional batch norm, ReLU and dropout for each size; ``width`` is the last one."""

    def __init__(
        self, width: int, sizes: tuple[int, ...], dropout: float, batch_norm: bool, residual: Residual
    ) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [FactorisedInteraction(width, size, residual), HiddenActivation(size, dropout, batch_norm)]
            width = size
        super().__init__(*layers)
        self.width = width


class FactorisedInteraction(nn.Module):
    """Two linear maps a and b of the input as [a, a b] (``concat``, each half as wide) or a + a b (``sum``)."""

    def __init__(self, width: int, size: int, residual: Residual) -> None:
        super().__init__()
        if residual == "concat" and size % 2:
            raise InputError(f"A layer of {size} cannot be halved.", 'Choose an even size, or the residual "sum".')
        self.concat = residual == "concat"
        self.linear = Linear(width, size if self.concat else 2 * size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [rows, size]."""
        first, second = self.linear(hidden).chunk(2, dim=-1)
        product = first * second
        return torch.cat([first, product], dim=-1) if self.concat else first + product
