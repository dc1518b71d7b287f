"""The native engine for all three stages; what it has no step for per candidate stays PyTorch's, before or after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Given, Kept, Made, Prepared, as_tensor
from bowerbird.compiler.backends.native_request import MakeTensors, RequestRunner
from bowerbird.compiler.backends.native_rows import TOGETHER, own_stacks, rows_runner
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import Node, RowGraph, ordered
from bowerbird.compiler.operations import Input, Reshape
from bowerbird.compiler.pair.lower import answer_name, lower_pair
from bowerbird.compiler.pair.program import PairLowering, Source
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram
from bowerbird.errors import InputError
from bowerbird.kernels.pair import MOST_THREADS, PairProgram
from bowerbird.kernels.pair_activation import Weights
from bowerbird.kernels.pair_given import Items
from bowerbird.kernels.pair_twin import PairTwin
from bowerbird.kernels.tensor import TensorProgram

Values = npt.NDArray[np.float32]
_ROWS_TOGETHER = 1024
"""So many rows of many requests are computed at a time, which bounds what PyTorch's parts take."""
LEAST_SHARE = 0.5
"""The least share of a candidate's operations that the engine must compute to be worth its while."""
ROWS_PER_THREAD = 256
"""A request is split over the threads that PyTorch may use where each has so many candidates at least."""

Engine = PairProgram | PairTwin
RunRows = Callable[[Mapping[str, Made], int], dict[str, Tensor]]
MakeEngine = Callable[[Mapping[str, Any], Weights, Precision], Engine]
"""From a specification, weights and a precision to what runs it."""


def split_program(spec: Mapping[str, Any], weights: Weights, precision: Precision) -> PairProgram:
    """Return a pair program that splits large requests over the threads that PyTorch may use when it is made."""
    return PairProgram(spec, weights, precision, min(torch.get_num_threads(), MOST_THREADS), ROWS_PER_THREAD)


@dataclass(frozen=True)
class Native:
    """Runs what is left per candidate on ``make``'s pair programs, the other stages on ``make_tensors``'s."""

    make: MakeEngine = split_program
    make_tensors: MakeTensors = TensorProgram
    name: str = "native"
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the program with its stages of request and pair packed for this machine.

        Raises InputError where the engine would compute less than half of what a candidate costs.
        """
        lowering = lower_pair(program.pair)
        if lowering.native_share < LEAST_SHARE:
            raise InputError(
                f"The native engine has steps for {lowering.native_share:.0%} of what a candidate costs.",
                "Serve this model by another backend.",
            )
        engine = self.make(lowering.spec, lowering.weights, precision)
        run = PairRunner(lowering, engine, self.make_tensors)
        request = RequestRunner(request_graph(program, lowering), precision, self.make_tensors)
        rows = self._of_rows(lowering, precision)
        item, least = rows_runner(program.item, self.make_tensors)
        return Prepared(
            request, item, run, run.gather, takes_arrays=True, least_items=least, rows=rows, stacks=run.stacks,
            items_together=TOGETHER, item_stacks=own_stacks(item.stacked),
        )  # fmt: skip

    def _of_rows(self, lowering: PairLowering, precision: Precision) -> RunRows | None:
        """Return what computes rows of many requests, prepared when it is first called; None where it cannot."""
        apart = requests_apart(lowering)
        if apart is None:
            return None

        @cache
        def runner() -> PairRunner:
            return PairRunner(apart, self.make(apart.spec, apart.weights, precision), self.make_tensors)

        def run(given: Mapping[str, Made], rows: int) -> dict[str, Tensor]:
            parts = [
                runner()(
                    {name: value if len(value) == 1 else value[first : first + _ROWS_TOGETHER]
                     for name, value in given.items()},
                    min(_ROWS_TOGETHER, rows - first),
                )
                for first in range(0, rows, _ROWS_TOGETHER)
            ]  # fmt: skip
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        return run


class PairRunner:
    """What is small before the engine, on tensor programs or by PyTorch; the engine; PyTorch's part after it."""

    def __init__(self, lowering: PairLowering, engine: Engine, make_tensors: MakeTensors) -> None:
        self._engine = engine
        self._before = rows_runner(lowering.before, make_tensors)[0] if lowering.before.outputs else None
        self._after = Executable(lowering.after)
        self._constants = {name: each.constant for name, each in lowering.request.items() if each.constant is not None}
        self._request = [(name, each) for name, each in lowering.request.items() if each.constant is None]
        self._items = [(name, each.name) for name, each in lowering.items.items()]
        after = [name for name in self._after.inputs if name.startswith("native.")]
        self._answers = {name: _shape_of(name) for name in after}
        self._direct = _only_reshaped(lowering.after)
        self.stacks = self._stacks()

    def __call__(self, given: Given, rows: int) -> dict[str, Tensor]:
        """Return the pair graph's outputs."""
        return {name: as_tensor(value) for name, value in self.gather(given, rows).items()}

    def gather(self, given: Given, rows: int) -> Mapping[str, Made]:
        """Return the pair graph's outputs, the engine's own as arrays."""
        known = given
        if self._before is not None:
            known = {**given, **self._before(given, rows)}
        request = dict(self._constants)
        for name, source in self._request:
            request[name] = _request_values(source, known[source.name])
        items = {name: _rows_of(known[source], rows) for name, source in self._items}
        answers = self._engine.run(request, items, rows)
        if self._direct is not None:
            return {name: answers[own].reshape(rows, *shape) for name, (own, shape) in self._direct.items()}
        after = {
            name: torch.from_numpy(answers[own]).reshape(rows, *shape) for name, (own, shape) in self._answers.items()
        }
        return self._after({**_tensors(known, self._after), **after}, rows)

    def _stacks(self) -> dict[str, tuple[str, ...]]:
        """Return the stacks of numbers that are read side by side alone."""
        if self._before is None:
            return {}
        others = self._after.inputs.keys() | {source for _, source in self._items}
        return own_stacks(self._before.stacked, others | {source.name for _, source in self._request})


def requests_apart(lowering: PairLowering) -> PairLowering | None:
    """Return a program that is given the request's values for each candidate; None where it reads a history of it."""
    moved = {name: each for name, each in lowering.request.items() if each.constant is None}
    if any(each.length for each in moved.values()):
        return None
    inputs = [{**each, "stage": "item"} if each["name"] in moved else each for each in lowering.spec["inputs"]]
    constant = {name: each for name, each in lowering.request.items() if name not in moved}
    items = {**lowering.items, **moved}
    return replace(lowering, spec={**lowering.spec, "inputs": inputs}, request=constant, items=items)


def request_graph(program: StagedProgram, lowering: PairLowering) -> RowGraph:
    """Return what the pair stage reads of a request, and what the engine needs made of it, once per request."""
    build = program.builder
    made = dict(program.request.outputs)
    read = {source.name for source in lowering.request.values()}
    read |= {name for graph in (lowering.before, lowering.after) for name in _inputs(graph)}
    new: dict[int, Node] = {}
    for node in ordered(lowering.request_part.values()):
        if isinstance(node.operation, Input):
            new[id(node)] = made.get(node.operation.name, node)
        else:
            new[id(node)] = build.add(node.operation, [new[id(each)] for each in node.inputs], node.where)
    kept = {name: node for name, node in made.items() if name in read}
    return RowGraph(build, {**kept, **{name: new[id(node)] for name, node in lowering.request_part.items()}})


def _inputs(graph: RowGraph) -> list[str]:
    return [node.operation.name for node in graph.nodes() if isinstance(node.operation, Input)]


def _only_reshaped(graph: RowGraph) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Return the engine's answer and a shape for each output, where nothing is left to compute."""
    found = {}
    for name, output in graph.outputs.items():
        node = output
        while isinstance(node.operation, Reshape):
            node = node.inputs[0]
        if not isinstance(node.operation, Input) or not node.operation.name.startswith("native."):
            return None
        found[name] = (_shape_of(node.operation.name)[0], output.shape)
    return found


def _tensors(given: Given, graph: Executable) -> dict[str, Tensor]:
    """Return the inputs of a graph of PyTorch's."""
    found = {name: given[name] for name in graph.inputs if name in given}
    return {name: as_tensor(each) for name, each in found.items()}


def _shape_of(name: str) -> tuple[str, tuple[int, ...]]:
    _, own, sizes = name.split(".")
    shape = tuple(int(each) for each in sizes.split("x")) if sizes else ()
    assert answer_name(own, shape) == name
    return own, shape


def _request_values(source: Source, value: Made | Kept) -> Values:
    assert not isinstance(value, Kept)
    held: Values = value.to(torch.float32).numpy() if isinstance(value, Tensor) else value
    return held.reshape(-1, source.width) if source.length else held.reshape(-1)


def _rows_of(value: Made | Kept, rows: int) -> Items:
    if isinstance(value, Kept):
        return value.stored, value.places
    array = value.numpy() if isinstance(value, Tensor) else value
    if len(array) != rows:
        array = np.broadcast_to(array, (rows, *array.shape[1:]))
    return np.ascontiguousarray(array, np.float32).reshape(rows, -1)
