"""Running a row graph with PyTorch, operation by operation: always right, and what other backends are compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bowerbird.compiler.graph import Node, RowGraph
from bowerbird.compiler.operations import Input, Run
from bowerbird.errors import InputError

_Step = tuple[Run, tuple[int, ...], int, tuple[int, ...]]


class Executable:
    """A row graph as a list of steps; what is constant is computed once. Threads may share it."""

    def __init__(self, graph: RowGraph) -> None:
        nodes = graph.nodes()
        place = {id(node): number for number, node in enumerate(nodes)}
        self.constants: dict[int, Tensor] = {}
        self.inputs: dict[str, int] = {}
        self._outputs = {name: place[id(node)] for name, node in graph.outputs.items()}
        last = _last_uses(nodes, place, set(self._outputs.values()))
        self._steps: list[_Step] = []
        for number, node in enumerate(nodes):
            if isinstance(node.operation, Input):
                self.inputs[node.operation.name] = number
            elif node.stage == "constant":
                self.constants[number] = graph.builder.value(node).unsqueeze(0)
            else:
                inputs = tuple(place[id(item)] for item in node.inputs)
                self._steps.append((node.operation.runner(), inputs, number, last.get(number, ())))

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return outputs [rows, *shape], or [1, *shape] where all rows share one; ``given`` are [rows or 1, *shape].

        Raises InputError where an input is absent.
        """
        for name in self.inputs:
            if name not in given:
                raise InputError(f"The input {name!r} is absent.", f"Give {', '.join(self.inputs)}.")
        with torch.inference_mode():
            return self.evaluate(given, rows, self.constants)

    def evaluate(self, given: Mapping[str, Tensor], rows: int, constants: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return outputs for constants that are given, too: what an exporter traces."""
        values = dict(constants)
        values |= {number: given[name] for name, number in self.inputs.items()}
        for run, inputs, number, done in self._steps:
            values[number] = run([values[each] for each in inputs], rows)
            for each in done:
                del values[each]
        return {name: values[number] for name, number in self._outputs.items()}


def _last_uses(nodes: list[Node], place: Mapping[int, int], kept: set[int]) -> dict[int, tuple[int, ...]]:
    """Return which values no step needs after a step, by the step's number."""
    last: dict[int, int] = {}
    for node in nodes:
        for item in node.inputs:
            if item.stage != "constant" and place[id(item)] not in kept:
                last[place[id(item)]] = place[id(node)]
    done: dict[int, tuple[int, ...]] = {}
    for value, step in last.items():
        done[step] = (*done.get(step, ()), value)
    return done
