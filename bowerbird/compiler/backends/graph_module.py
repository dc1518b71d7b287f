"""A row graph as a PyTorch module, for engines that read those; and what such an engine made of it, as a runner."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from bowerbird.compiler.backends.contract import Made, as_tensor
from bowerbird.compiler.capture import GRAPH_LOCK
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.operations import Input, dtype_named
from bowerbird.compiler.serial import pack_graph

EXAMPLE_ROWS = 128
"""For how many candidates an engine tunes itself."""


class GraphModule(nn.Module):
    """A row graph as a module over its inputs in order; it returns its outputs in order, for an exporter to read."""

    def __init__(self, graph: RowGraph) -> None:
        super().__init__()
        self.inputs = [node for node in graph.nodes() if isinstance(node.operation, Input)]
        self.outputs = list(graph.outputs)
        self.executable = Executable(graph)
        for number, value in self.executable.constants.items():
            self.register_buffer(f"constant_{number}", value)

    @property
    def names(self) -> list[str]:
        """The names of its inputs."""
        return [node.operation.name for node in self.inputs if isinstance(node.operation, Input)]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of inputs [rows or 1, *shape]."""
        constants = {number: getattr(self, f"constant_{number}") for number in self.executable.constants}
        values = dict(zip(self.names, given, strict=True))
        rows = next((value.shape[0] for value, node in zip(given, self.inputs, strict=True) if not node.shared), 1)
        result = self.executable.evaluate(values, rows, constants)
        return tuple(result[name] for name in self.outputs)

    def example(self, rows: int) -> list[Tensor]:
        """Return random inputs; those that all rows share have one."""
        generator = torch.Generator().manual_seed(0)
        return [
            torch.randn(1 if node.shared else rows, *node.shape, generator=generator).to(dtype_named(node.dtype))
            for node in self.inputs
        ]

    def exported(self, rows: int = EXAMPLE_ROWS) -> ExportedProgram:
        """Return its export for any number of rows, with examples of ``rows``."""
        dim = Dim("rows", min=1)
        dynamic = tuple({} if node.shared else {0: dim} for node in self.inputs)
        with GRAPH_LOCK, warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            return export(self, tuple(self.example(rows)), dynamic_shapes=(dynamic,))


class StageRunner:
    """A stage that an engine compiled; ``call`` maps its inputs to its outputs, both in the module's order."""

    def __init__(self, module: GraphModule, call: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> None:
        self._inputs = list(zip(module.names, (node.shared for node in module.inputs), strict=True))
        self._outputs = module.outputs
        self._call = call

    def __call__(self, given: Mapping[str, Made], rows: int) -> dict[str, Tensor]:
        """Return the stage's outputs; the request stage of many requests takes one after the other."""
        known = {name: as_tensor(given[name]) for name, _ in self._inputs}
        requests = max((len(known[name]) for name, shared in self._inputs if shared), default=1)
        if requests > 1:
            each = [self({name: value[row : row + 1] for name, value in known.items()}, 1) for row in range(requests)]
            return {name: torch.cat([answers[name] for answers in each]) for name in self._outputs}
        values = [
            known[name] if shared else known[name].expand(rows, *known[name].shape[1:]).contiguous()
            for name, shared in self._inputs
        ]
        return dict(zip(self._outputs, self._call(values), strict=True))


def runs_as_it_is(graph: RowGraph) -> bool:
    """Return whether a graph is left to PyTorch: it computes nothing, or rows meet in the module's own operators."""
    nodes = graph.nodes()
    return not any(node.flops for node in nodes) or any(node.operation.couples for node in nodes)


def content_digest(graph: RowGraph, *more: str) -> str:
    """Return a name for what is compiled of a graph: it changes with operations, weights and with ``more``."""
    data, arrays = pack_graph(graph)
    digest = hashlib.sha256(data)
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    for each in more:
        digest.update(each.encode() + b"\0")
    return digest.hexdigest()[:24]
