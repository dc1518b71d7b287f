"""The native engine for what is computed once per request; what it has no step for stays PyTorch's, before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.tensor.lower import lower_tensors
from bowerbird.kernels.tensor import Array, TensorProgram
from bowerbird.kernels.tensor_spec import TensorSpec
from bowerbird.kernels.tensor_twin import TensorTwin

MakeTensors = Callable[[TensorSpec, Precision], TensorProgram | TensorTwin]
"""From a specification and a precision to what runs it."""


class RequestRunner:
    """A request's graph: PyTorch's part, where there is one, then one native call."""

    def __init__(self, graph: RowGraph, precision: Precision, make: MakeTensors = TensorProgram) -> None:
        lowering = lower_tensors(graph)
        self._before = Executable(lowering.before)
        self._program = make(lowering.spec, precision)
        self._inputs = [(name, each.shape) for name, each in lowering.spec.inputs.items()]
        self._outputs = [(name, shape, dtype == "bool") for name, (shape, dtype) in lowering.outputs.items()]
        self._sizes = [math.prod(shape) for _, shape, _ in self._outputs]
        self._passed = lowering.passed

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return the graph's outputs [requests, *shape]: one, or as many as the inputs have."""
        known = {**given, **self._before(given, rows)} if self._before.inputs else given
        requests = max((len(known[name]) for name, _ in self._inputs), default=1)
        arrays = [_array(known[name], requests) for name, _ in self._inputs]
        answers = torch.from_numpy(self._program.run(arrays, requests)).split(self._sizes, dim=1)
        found = {name: known[source] for name, source in self._passed.items()}
        for (name, shape, truths), values in zip(self._outputs, answers, strict=True):
            value = values.reshape(requests, *shape)
            found[name] = value != 0 if truths else value
        return found


def _array(value: Tensor, requests: int) -> Array:
    array: Array = value.expand(requests, *value.shape[1:]).contiguous().numpy()
    return array
