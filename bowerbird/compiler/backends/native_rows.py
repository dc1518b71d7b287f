"""The native engine for what is computed of many rows alike, items or candidates: several in one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import LEAST_ROWS, Kept, Made, as_array, as_tensor
from bowerbird.compiler.backends.native_request import MakeTensors
from bowerbird.compiler.backends.stacked import StackedInputs
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.tensor.lower import TensorLowering, lower_tensors
from bowerbird.errors import InputError
from bowerbird.kernels.flat_values import FlatValues
from bowerbird.kernels.tensor import Array, TensorProgram
from bowerbird.kernels.tensor_rows import side_by_side
from bowerbird.kernels.tensor_spec import Values

TOGETHER = 12
"""Rows of one run: a multiple of those whose sums an engine keeps in registers, so that none goes another way."""


class RowsRunner:
    """A graph as a tensor program; what a row becomes is the same bits in any company."""

    def __init__(self, stacked: StackedInputs, lowering: TensorLowering, make: MakeTensors) -> None:
        self.stacked = stacked
        self._program = make(side_by_side(lowering.spec, TOGETHER), "fp32")
        self._inputs = list(lowering.spec.inputs)
        self._outputs = [(name, shape, dtype == "bool") for name, (shape, dtype) in lowering.outputs.items()]
        self._passed = lowering.passed

    def __call__(self, given: Mapping[str, Made | Kept], rows: int) -> dict[str, Made]:
        """Return the graph's outputs [rows, *shape], or of one row where all inputs have one.

        Raises InputError where an input is absent.
        """
        if isinstance(given, FlatValues) and self._takes_flat(given, rows) and isinstance(self._program, TensorProgram):
            passed = {name: as_tensor(given[source]) for name, source in self._passed.items()}
            return passed | self._parted(self._program.run_flat(given, rows // TOGETHER), rows)
        try:
            known = {**given, **self.stacked(given)}
            inputs = [as_array(known[name]) for name in self._inputs]
            found: dict[str, Made] = {name: as_tensor(known[source]) for name, source in self._passed.items()}
        except KeyError as absent:
            raise InputError(f"The input {absent} is absent.", "Give all that the rows are made of.") from None
        count = min(rows, max(map(len, inputs), default=1))
        runs = -(-count // TOGETHER)
        answers = self._program.run([_filled(each, count, runs * TOGETHER) for each in inputs], runs)
        return found | self._parted(answers, count)

    def _takes_flat(self, given: FlatValues, rows: int) -> bool:
        """Return whether runs are whole and numbers stand side by side where they are read so."""
        return rows % TOGETHER == 0 and self.stacked.names.keys() <= given.layout.places.keys()

    def _parted(self, answers: Values, rows: int) -> dict[str, Made]:
        """Return outputs [rows, *shape] of answers [runs, numbers]."""
        found: dict[str, Made] = {}
        start = 0
        for name, shape, truths in self._outputs:
            stop = start + TOGETHER * math.prod(shape)
            value = answers[:, start:stop].reshape(-1, *shape)[:rows]
            found[name] = torch.from_numpy(value != 0) if truths else value
            start = stop
        return found


class PlainRows:
    """A graph by PyTorch."""

    def __init__(self, stacked: StackedInputs) -> None:
        self.stacked = stacked
        self._graph = Executable(stacked.graph)

    def __call__(self, given: Mapping[str, Made | Kept], rows: int) -> dict[str, Tensor]:
        """Return the graph's outputs [rows, *shape], or of one row where all inputs have one."""
        tensors = {name: as_tensor(given[name]) for name in self._graph.inputs if name in given}
        return self._graph({**tensors, **self.stacked(given)}, rows)


def own_stacks(stacked: StackedInputs, others: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the stacks of numbers that are read side by side alone; ``others`` are names that are read besides."""
    read = stacked.others.union(others)
    return {name: names for name, names in stacked.names.items() if read.isdisjoint(names)}


def rows_runner(graph: RowGraph, make: MakeTensors = TensorProgram) -> tuple[RowsRunner | PlainRows, int]:
    """Return what runs a graph, the native engine or, where that lacks a step, PyTorch.

    Beside it stands how many rows there must be at least for each to be the same bits in any company.
    """
    stacked = StackedInputs(graph)
    lowering = lower_tensors(stacked.graph)
    if lowering.spec.outputs and not lowering.before.outputs:
        return RowsRunner(stacked, lowering, make), 1
    return PlainRows(stacked), LEAST_ROWS


def _filled(array: npt.NDArray[Any], count: int, places: int) -> Array:
    """Return as many places as are computed: rows stand in the first ones, any row in those that are left."""
    if len(array) == places:
        return np.ascontiguousarray(array)
    filled = np.empty((places, *array.shape[1:]), array.dtype)
    filled[:count] = array
    filled[count:] = array[:1]
    return filled
