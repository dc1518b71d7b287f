"""Numbers that PyTorch's part takes side by side: joined as arrays, which costs less than hundreds of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Kept, Made, as_tensor
from bowerbird.compiler.graph import Node, RowGraph, rebuilt
from bowerbird.compiler.operations import Input, Stack
from bowerbird.plan.columns import side_by_side

_PREFIX = "stacked."


class StackedInputs:
    """A graph's stacks of float32 inputs, as inputs of their own; ``graph`` is what is left of it.

    ``names`` are those of the inputs that a stack is made of.
    """

    def __init__(self, graph: RowGraph) -> None:
        self.names: dict[str, tuple[str, ...]] = {}

        def given(node: Node) -> Node:
            inputs = [each.operation for each in node.inputs]
            names = [each.name for each in inputs if isinstance(each, Input) and each.dtype == "float32"]
            if not isinstance(node.operation, Stack) or len(names) < len(inputs):
                return node
            name = f"{_PREFIX}{len(self.names)}"
            self.names[name] = tuple(names)
            return graph.builder.input(name, node.shape, node.dtype, node.stage)

        roots = graph.outputs.values()
        new = rebuilt(graph.builder, roots, given)
        self.graph = RowGraph(graph.builder, {name: new[id(node)] for name, node in graph.outputs.items()})

    @property
    def others(self) -> set[str]:
        """The graph's inputs that are no stacks."""
        inputs = [node.operation for node in self.graph.nodes()]
        return {each.name for each in inputs if isinstance(each, Input)} - self.names.keys()

    def __call__(self, known: Mapping[str, Made | Kept]) -> dict[str, Tensor]:
        """Return the stacks [rows, numbers] of what is given; those of one row are repeated among others.

        A stack that is given under its own name is left out.
        """
        return {
            name: _stacked([known[each] for each in names]) for name, names in self.names.items() if name not in known
        }


def _stacked(values: Sequence[Made | Kept]) -> Tensor:
    columns = [each if isinstance(each, np.ndarray) else as_tensor(each).numpy() for each in values]
    return torch.from_numpy(np.ascontiguousarray(side_by_side(columns).T))
