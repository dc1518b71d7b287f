"""Functions of one value that a pair program knows: activations of layers, and steps of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError

Values = npt.NDArray[np.float32]
Weights = Mapping[str, Values]


@dataclass(frozen=True)
class Activation:
    """A function of one value; ``arrays`` hold its parameters per column, ``numbers`` those that all columns share."""

    name: str
    arrays: tuple[Values, ...] = ()
    numbers: tuple[float, float] = (0.0, 0.0)

    def __call__(self, x: Values) -> Values:
        """Apply the function to float32 [rows, width]."""
        return _FUNCTIONS[self.name](x, self)


def activation_of(given: str | Mapping[str, Any] | None, width: int, weights: Weights) -> Activation:
    """Read an activation of ``width`` columns from a spec: absent, a name, or an object with ``op`` and parameters."""
    fields: Mapping[str, Any] = {"op": given or "none"} if given is None or isinstance(given, str) else given
    name = fields["op"]
    if name not in _FUNCTIONS:
        raise InputError(f"Activation {name!r} is not known.", f"Use one of {', '.join(sorted(_FUNCTIONS))}.")

    def column(field: str, default: float | None = None) -> Values:
        value = fields.get(field, default)
        if isinstance(value, str):
            if value not in weights:
                raise InputError(f"Weight {value!r} is not given.", "Pass it in the weights.")
            value = weights[value]
        array = np.asarray(value, np.float32).reshape(-1)
        if array.size not in (1, width):
            raise InputError(f"{name}'s {field} has {array.size} values.", f"Give 1 or {width}.")
        return np.ascontiguousarray(np.broadcast_to(array, (width,)))

    if name == "leaky_relu":
        return Activation(name, numbers=(float(fields.get("slope", 0.01)), 0.0))
    if name == "elu":
        return Activation(name, numbers=(float(fields.get("alpha", 1.0)), 0.0))
    if name == "clamp":
        return Activation(name, numbers=(float(fields.get("min", -np.inf)), float(fields.get("max", np.inf))))
    if name == "prelu":
        return Activation(name, (column("slope"),))
    if name == "scale_shift":
        return Activation(name, (column("scale", 1.0), column("shift", 0.0)))
    if name == "dice":
        scale = 1 / np.sqrt(column("variance") + np.float32(fields.get("eps", 1e-8)))
        return Activation(name, (column("alpha"), scale, -column("mean") * scale))
    return Activation(name)


def _sigmoid(x: Values) -> Values:
    with np.errstate(over="ignore"):
        return np.asarray(np.float32(1) / (np.float32(1) + np.exp(-x)), np.float32)


def _tanh_gelu(x: Values) -> Values:
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + np.tanh(inner)), np.float32)


def _erf(x: Values) -> Values:
    """The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x.astype(np.float64)))
    power = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.sign(x) * (1 - power * np.exp(-(x.astype(np.float64) ** 2))), np.float32)


def _dice(x: Values, given: Activation) -> Values:
    alpha, scale, shift = given.arrays
    gate = _sigmoid(x * scale + shift)
    return np.asarray(x * (alpha + (1 - alpha) * gate), np.float32)


def _softplus(x: Values) -> Values:
    return np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Values, given: Activation) -> Values:
    below = np.float32(given.numbers[0]) * np.expm1(np.minimum(x, np.float32(0)))
    return np.asarray(np.where(x > 0, x, below), np.float32)


def _clamp(x: Values, given: Activation) -> Values:
    return np.minimum(np.maximum(x, np.float32(given.numbers[0])), np.float32(given.numbers[1]))


_FUNCTIONS: dict[str, Callable[[Values, Activation], Values]] = {
    "none": lambda x, _: x,
    "relu": lambda x, _: np.maximum(x, np.float32(0)),
    "leaky_relu": lambda x, given: np.where(x > 0, x, np.float32(given.numbers[0]) * x),
    "prelu": lambda x, given: np.where(x > 0, x, given.arrays[0] * x),
    "gelu": lambda x, _: np.float32(0.5) * x * (np.float32(1) + _erf(x * np.float32(0.70710678))),
    "gelu_tanh": lambda x, _: _tanh_gelu(x),
    "silu": lambda x, _: x * _sigmoid(x),
    "sigmoid": lambda x, _: _sigmoid(x),
    "tanh": lambda x, _: np.tanh(x),
    "elu": _elu,
    "softplus": lambda x, _: _softplus(x),
    "dice": _dice,
    "exp": lambda x, _: np.exp(x),
    "log": lambda x, _: np.log(x),
    "sqrt": lambda x, _: np.sqrt(x),
    "rsqrt": lambda x, _: np.asarray(np.float32(1) / np.sqrt(x), np.float32),
    "neg": lambda x, _: -x,
    "abs": lambda x, _: np.abs(x),
    "square": lambda x, _: x * x,
    "clamp": _clamp,
    "scale_shift": lambda x, given: x * given.arrays[0] + given.arrays[1],
}
ACTIVATIONS = frozenset(_FUNCTIONS)
"""Names of all functions of one value."""
