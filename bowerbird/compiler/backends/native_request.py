"""The native engine for what is computed once per request; what it has no step for stays PyTorch's, before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate

import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Made, as_tensor
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.tensor.lower import lower_tensors
from bowerbird.errors import InputError
from bowerbird.kernels.flat_values import FlatValues
from bowerbird.kernels.tensor import Array, TensorProgram
from bowerbird.kernels.tensor_spec import TensorSpec, Values
from bowerbird.kernels.tensor_twin import TensorTwin

MakeTensors = Callable[[TensorSpec, Precision], TensorProgram | TensorTwin]
"""From a specification and a precision to what runs it."""


class RequestRunner:
    """A request's graph: PyTorch's part, where there is one, then one native call."""

    def __init__(self, graph: RowGraph, precision: Precision, make: MakeTensors = TensorProgram) -> None:
        lowering = lower_tensors(graph)
        self._before = Executable(lowering.before)
        self._program = make(lowering.spec, precision)
        self._inputs = list(lowering.spec.inputs)
        sizes = [math.prod(shape) for shape, _ in lowering.outputs.values()]
        stops = list(accumulate(sizes))
        self._outputs = [
            (name, stop - size, stop, shape, dtype == "bool")
            for (name, (shape, dtype)), size, stop in zip(lowering.outputs.items(), sizes, stops, strict=True)
        ]
        self._passed = lowering.passed

    def __call__(self, given: Mapping[str, Made], rows: int) -> dict[str, Made]:
        """Return the graph's outputs [requests, *shape]: one, or as many as the inputs have.

        Raises InputError where an input is absent.
        """
        known = given
        if self._before.inputs:
            tensors = {name: as_tensor(given[name]) for name in self._before.inputs if name in given}
            known = {**given, **self._before(tensors, rows)}
        answers = self._answers(known, rows)
        requests = len(answers)
        found: dict[str, Made] = {name: known[source] for name, source in self._passed.items()}
        for name, start, stop, shape, truths in self._outputs:
            value = answers[:, start:stop].reshape(requests, *shape)
            found[name] = torch.from_numpy(value != 0) if truths else value
        return found

    def _answers(self, known: Mapping[str, Made], rows: int) -> Values:
        """Return the program's outputs [requests, numbers]."""
        if isinstance(known, FlatValues) and isinstance(self._program, TensorProgram):
            return self._program.run_flat(known)
        try:
            inputs = [known[name] for name in self._inputs]
        except KeyError as absent:
            raise InputError(f"The input {absent} is absent.", f"Give {', '.join(self._inputs)}.") from None
        requests = 1 if rows == 1 else max((len(value) for value in inputs), default=1)
        return self._program.run([_array(value, requests) for value in inputs], requests)


def _array(value: Made, requests: int) -> Array:
    array: Array = value.numpy() if isinstance(value, Tensor) else value
    if len(array) != requests:
        array = array.repeat(requests, 0)
    return array if array.flags.c_contiguous else array.copy()
