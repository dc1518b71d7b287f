"""Tensor programs: what is computed once per request or of an item, as steps over tensors of fixed shapes; checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.kernels.tensor_view import Shape, View

Values = npt.NDArray[np.float32]
TensorOp = Literal["pointwise", "reduce", "softmax", "layer_norm", "linear", "product", "attention"]

ARITY = {
    **dict.fromkeys(
        (
            "copy", "relu", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "elu", "softplus", "exp",
            "log", "log1p", "sqrt", "rsqrt", "reciprocal", "neg", "abs", "square", "sign", "clamp", "scale_shift",
            "not", "is_nan", "nan_to_num",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "and", "or",
        ),
        2,
    ),
    "where": 3,
}  # fmt: skip
"""How many numbers each function takes. Truth values are 1 and 0; whatever is not 0 counts as true."""


@dataclass(frozen=True)
class TensorInput:
    """What a run is given: float32 numbers, or truth values (bool), of a shape."""

    shape: Shape
    truths: bool = False


@dataclass(frozen=True)
class TensorStep:
    """One step: ``out`` becomes what ``op`` makes of ``inputs``.

    * *pointwise*: ``element`` of inputs as large as ``out``; ``numbers`` are a slope (leaky_relu, elu), a least and a
      greatest number (clamp), a factor and a term (scale_shift), or what stands for no number, infinity and less than
      all (nan_to_num).
    * *reduce*: ``reduction`` (sum, mean, max) over the input's last dimensions, those that ``out`` has not.
    * *softmax* over the last dimension; *layer_norm* too, with ``weight`` and ``bias`` [width] or None and the epsilon
      ``number``.
    * *linear*: element([rows, inputs] · weightᵀ + bias) for ``weight`` [outputs, inputs].
    * *product*: [..., n, k] · [..., k, m] → [..., n, m].
    * *attention*: softmax(number · q kᵀ) v for q [heads, n, d], k [heads, l, d], v [heads, l, e]; a fourth input [l] is
      0 at positions that do not count; where none counts the sum is 0.
    """

    op: TensorOp
    out: View
    inputs: tuple[View, ...]
    element: str = "copy"
    numbers: tuple[float, ...] = ()
    reduction: str = "sum"
    weight: Values | None = None
    bias: Values | None = None
    number: float = 0.0


@dataclass(frozen=True)
class TensorSpec:
    """A program: steps over named values. ``sizes`` are those that steps write, in numbers; ``outputs`` its answers."""

    inputs: Mapping[str, TensorInput]
    outputs: Mapping[str, View]
    steps: list[TensorStep] = field(default_factory=list)
    sizes: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, Values] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InputError where a step's shapes do not fit, or a view leaves its value."""
        for name in (*self.inputs, *self.constants):
            if name in self.sizes:
                raise InputError(f"A tensor program computes {name!r}, which is given.", "Use another name.")
        for step in self.steps:
            for view in (step.out, *step.inputs):
                self._check_view(view)
            if step.out.of not in self.sizes:
                raise InputError(f"A tensor program writes to {step.out.of!r}, which is given.", "Write a new value.")
            if not _fits(step):
                shapes = [each.shape for each in (*step.inputs, step.out)]
                raise InputError(f"A step {step.op} ({step.element}) has shapes {shapes}.", "See TensorStep.")
        for view in self.outputs.values():
            self._check_view(view)

    def size(self, name: str) -> int:
        """Return the numbers of a value."""
        if name in self.inputs:
            return math.prod(self.inputs[name].shape)
        if name in self.constants:
            return self.constants[name].size
        if name not in self.sizes:
            raise InputError(f"No value of a tensor program is named {name!r}.", "Give, hold or compute it.")
        return self.sizes[name]

    def _check_view(self, view: View) -> None:
        size = self.size(view.of)
        last = view.offset + sum((count - 1) * stride for count, stride in zip(view.shape, view.strides, strict=True))
        if view.offset < 0 or min(view.strides, default=0) < 0 or last >= size or 0 in view.shape:
            raise InputError(f"{view} reads beyond the {size} numbers of its value.", "Stay within them.")


def _fits(step: TensorStep) -> bool:
    shapes, out = [each.shape for each in step.inputs], step.out.shape
    whole = all(each.rows_are_whole for each in (step.out, *step.inputs))
    match step.op:
        case "pointwise":
            return len(shapes) == ARITY.get(step.element) and all(shape == out for shape in shapes)
        case "reduce":
            [given] = shapes
            return len(given) > len(out) == len(given[: len(out)]) and given[: len(out)] == out
        case "softmax":
            return shapes == [out] and len(out) > 0 and whole
        case "layer_norm":
            widths = [len(each) for each in (step.weight, step.bias) if each is not None]
            return shapes == [out] and len(out) > 0 and whole and all(width == out[-1] for width in widths)
        case "linear":
            assert step.weight is not None
            outputs, inputs = step.weight.shape
            fits_bias = step.bias is None or step.bias.shape == (outputs,)
            return shapes == [(out[0], inputs)] and out[1:] == (outputs,) and whole and fits_bias
        case "product":
            first, second = shapes
            inner = first[-1] == second[-2] and out == (*first[:-1], second[-1]) and first[:-2] == second[:-2]
            return inner and len(out) >= 2 and step.inputs[0].rows_are_whole and step.out.rows_are_whole
        case "attention":
            query, keys, values, *mask = shapes
            same = len({each[0] for each in (query, keys, values, out)}) == 1 and query[2] == keys[2]
            fits_mask = all(each == keys[1:2] for each in mask)
            sequences = all(each.rows_are_whole for each in (step.out, *step.inputs[:3]))
            return same and values[1] == keys[1] and out[1:] == (query[1], values[2]) and fits_mask and sequences
