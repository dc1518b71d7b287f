"""All inputs of a row as one flat vector: what most models begin with."""

from __future__ import annotations

from torch import Tensor, nn

from bowerbird.embedding.deferred import stretches
from bowerbird.embedding.inputs import Inputs
from bowerbird.models.numbers import PiecewiseNumbers, StandardNumbers
from bowerbird.models.sequences import History, joined
from bowerbird.models.vectors import vector_embeddings


class FlatInputs(nn.Module):
    """Embedded categories, numbers, vectors and pooled sequences, end to end: float32 [rows, width].

    Numbers are standardised and, with ``bins``, also encoded piecewise linearly; vectors are mapped to ``dimension``
    values each. ``histories`` are modules with a ``width`` that turn the features into [rows, width], one per sequence.
    """

    def __init__(self, inputs: Inputs, histories: list[History], dimension: int, bins: int = 0) -> None:
        super().__init__()
        self.categories = tuple(item.name for item in inputs.categories)
        self.histories = nn.ModuleList(histories)
        names = tuple(item.name for item in inputs.numbers)
        self.numbers = nn.ModuleList()
        self.width = sum(item.dimension for item in inputs.categories)
        self.width += sum(module.width for module in histories)
        if names:
            self.numbers.append(StandardNumbers(names))
            self.width += 2 * len(names)
        if names and bins:
            self.numbers.append(PiecewiseNumbers(names, bins))
            self.width += (bins + 1) * len(names)
        self.vectors = vector_embeddings(inputs, dimension)
        self.width += len(inputs.vectors) * dimension

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, width]."""
        parts = stretches(features, self.categories)
        parts += [module(features).flatten(1) for module in (*self.numbers, *self.vectors)]
        return joined(parts, [module(features) for module in self.histories])
