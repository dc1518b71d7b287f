"""The NumPy twin of the native tensor program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bowerbird.kernels.pair_activation import Activation
from bowerbird.kernels.pair_precision import Precision
from bowerbird.kernels.pair_rows import from_bfloat16, to_bfloat16
from bowerbird.kernels.pair_twin import softmax
from bowerbird.kernels.tensor import Array, stored_weights
from bowerbird.kernels.tensor_spec import TensorSpec, TensorStep, Values
from bowerbird.kernels.tensor_view import View

_REDUCTIONS: dict[str, Any] = {"sum": np.sum, "mean": np.mean, "max": np.max}


class TensorTwin:
    """Runs a tensor program step by step; same constructor and answers as ``TensorProgram``."""

    def __init__(self, spec: TensorSpec, precision: Precision = "fp32") -> None:
        spec.check()
        self.spec = spec
        self._narrow = stored_weights(precision) == "bf16"

    def run(self, given: Sequence[Array], count: int) -> Values:
        """Return the outputs of ``count`` requests; see ``TensorProgram.run``."""
        rows = [self._one([each.reshape(count, -1)[row] for each in given]) for row in range(count)]
        width = sum(view_size(view) for view in self.spec.outputs.values())
        return np.stack(rows) if rows else np.empty((0, width), np.float32)

    def _one(self, given: Sequence[Array]) -> Values:
        values = {name: np.array(each, np.float32) for name, each in zip(self.spec.inputs, given, strict=True)}
        values |= {name: each.reshape(-1) for name, each in self.spec.constants.items()}
        values |= {name: np.full(size, np.nan, np.float32) for name, size in self.spec.sizes.items()}

        def seen(view: View) -> Values:
            return as_strided(values[view.of][view.offset :], view.shape, [4 * each for each in view.strides])

        for step in self.spec.steps:
            with np.errstate(all="ignore"):
                seen(step.out)[...] = self._made(step, [seen(each) for each in step.inputs])
        answers = [seen(view).reshape(-1) for view in self.spec.outputs.values()]
        return np.concatenate(answers) if answers else np.empty(0, np.float32)

    def _made(self, step: TensorStep, x: list[Values]) -> Any:
        match step.op:
            case "pointwise":
                return element(step, x)
            case "reduce":
                return _REDUCTIONS[step.reduction](x[0], axis=tuple(range(len(step.out.shape), x[0].ndim)))
            case "softmax":
                return softmax(x[0], -1)
            case "layer_norm":
                centred = x[0] - x[0].mean(-1, keepdims=True)
                normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(step.number))
                scaled = normal if step.weight is None else normal * step.weight
                return scaled if step.bias is None else scaled + step.bias
            case "linear":
                assert step.weight is not None
                weight = from_bfloat16(to_bfloat16(step.weight)) if self._narrow else step.weight
                total = x[0] @ weight.T
                return element(step, [total if step.bias is None else total + step.bias])
            case "product":
                return x[0] @ x[1]
            case "attention":
                return _attention(step, x)


def _attention(step: TensorStep, x: list[Values]) -> Values:
    query, keys, values, *mask = x
    counts = mask[0] != 0 if mask else np.ones(keys.shape[1], bool)
    if not counts.any():
        return np.zeros((*query.shape[:2], values.shape[2]), np.float32)
    scores = np.float32(step.number) * (query @ keys[:, counts].swapaxes(1, 2))
    return np.asarray(softmax(scores, 2) @ values[:, counts])


def view_size(view: View) -> int:
    """Return how many numbers a view has."""
    return int(np.prod(view.shape))


def element(step: TensorStep, x: list[Values]) -> Values:
    """Return a step's function of arrays of one shape."""
    if step.element in _FUNCTIONS:
        return np.asarray(_FUNCTIONS[step.element](*x), np.float32)
    a, b, c = (np.float32(each) for each in (*step.numbers, 0.0, 0.0, 0.0)[:3])
    match step.element:
        case "copy":
            return x[0]
        case "scale_shift":
            return np.asarray(x[0] * a + b)
        case "nan_to_num":
            return np.nan_to_num(x[0], nan=float(a), posinf=float(b), neginf=float(c))
    return Activation(step.element, numbers=(float(a), float(b)))(x[0])


def _truth(compare: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *x: compare(*x).astype(np.float32)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log1p": np.log1p,
    "reciprocal": lambda x: np.float32(1) / x,
    "sign": np.sign,
    "not": _truth(lambda x: x == 0),
    "is_nan": _truth(np.isnan),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "eq": _truth(np.equal),
    "ne": _truth(np.not_equal),
    "lt": _truth(np.less),
    "le": _truth(np.less_equal),
    "gt": _truth(np.greater),
    "ge": _truth(np.greater_equal),
    "and": _truth(lambda x, y: (x != 0) & (y != 0)),
    "or": _truth(lambda x, y: (x != 0) | (y != 0)),
    "where": lambda condition, x, y: np.where(condition != 0, x, y),
}
