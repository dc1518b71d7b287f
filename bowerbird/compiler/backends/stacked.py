"""Numbers that PyTorch's part takes side by side: joined as arrays, which costs less than hundreds of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Kept, Made, as_tensor
from bowerbird.compiler.graph import Node, RowGraph, rebuilt
from bowerbird.compiler.operations import Input, Stack

_PREFIX = "stacked."


class StackedInputs:
    """A graph's stacks of float32 inputs, as inputs of their own; ``graph`` is what is left of it."""

    def __init__(self, graph: RowGraph) -> None:
        self._names: dict[str, list[str]] = {}

        def given(node: Node) -> Node:
            inputs = [each.operation for each in node.inputs]
            names = [each.name for each in inputs if isinstance(each, Input) and each.dtype == "float32"]
            if not isinstance(node.operation, Stack) or len(names) < len(inputs):
                return node
            name = f"{_PREFIX}{len(self._names)}"
            self._names[name] = names
            return graph.builder.input(name, node.shape, node.dtype, node.stage)

        roots = graph.outputs.values()
        new = rebuilt(graph.builder, roots, given)
        self.graph = RowGraph(graph.builder, {name: new[id(node)] for name, node in graph.outputs.items()})

    def __call__(self, known: Mapping[str, Made | Kept]) -> dict[str, Tensor]:
        """Return the stacks [rows, numbers] of what is given; those of one row are repeated among others."""
        return {name: _stacked([known[each] for each in names]) for name, names in self._names.items()}


def _stacked(values: Sequence[Made | Kept]) -> Tensor:
    columns = [each if isinstance(each, np.ndarray) else as_tensor(each).numpy() for each in values]
    rows = max(map(len, columns))
    flat = np.concatenate(columns)
    if flat.size < rows * len(columns):
        flat = np.concatenate([np.broadcast_to(each, rows) for each in columns])
    return torch.from_numpy(np.ascontiguousarray(flat.reshape(len(columns), rows).T))
