"""Activations as the native engine's steps spell them."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from bowerbird.compiler.graph import Node
from bowerbird.compiler.operations import Dice, Pointwise, Prelu, Ref, Shape
from bowerbird.compiler.pair.program import Draft, Step

_UNARY = {
    "relu.default": "relu", "silu.default": "silu", "sigmoid.default": "sigmoid", "tanh.default": "tanh",
    "softplus.default": "softplus", "exp.default": "exp", "log.default": "log", "sqrt.default": "sqrt",
    "rsqrt.default": "rsqrt", "neg.default": "neg", "abs.default": "abs",
}  # fmt: skip


def activation_of(node: Node, draft: Draft, shape: Shape) -> Step | None:
    """Return a function of a node's first input as the engine's steps spell it; None where it has none.

    ``shape`` is that of a row of the engine's: its weights are as wide.
    """
    match node.operation:
        case Prelu():
            return {"op": "prelu", "slope": _weight(draft, draft.build.value(node.inputs[1]), shape)}
        case Dice():
            alpha, scale, shift = (draft.build.value(each) for each in node.inputs[1:])
            given = {"alpha": alpha, "mean": -shift / scale, "variance": 1 / scale**2}
            return {"op": "dice", **{name: _weight(draft, each, shape) for name, each in given.items()}, "eps": 0.0}
        case Pointwise(target, (Ref(), *rest)) if not any(isinstance(each, Ref) for each in rest):
            return _of_value(target, rest)
        case Pointwise(target, (int() | float() as number, Ref())):
            return _of_number(target, number)
    return None


def _weight(draft: Draft, value: Tensor, shape: Shape) -> str:
    vector = value.reshape(-1)
    return draft.weight(vector if len(vector) == 1 else vector.expand(shape).reshape(math.prod(shape)))


def _of_value(target: str, rest: list[Any]) -> Step | None:
    if target in _UNARY:
        return {"op": _UNARY[target]} if not rest or target != "softplus.default" else None
    match target, rest:
        case "leaky_relu.default", [*slope]:
            return {"op": "leaky_relu", "slope": float(slope[0]) if slope else 0.01}
        case "gelu.default", [*kind]:
            return {"op": "gelu_tanh" if kind == ["tanh"] else "gelu"}
        case "elu.default", [*alpha] if len(alpha) < 2:
            return {"op": "elu", "alpha": float(alpha[0]) if alpha else 1.0}
        case "pow.Tensor_Scalar", [2 | 2.0]:
            return {"op": "square"}
        case "mul.Tensor" | "mul.Scalar", [int() | float() as factor]:
            return {"op": "scale_shift", "scale": float(factor), "shift": 0.0}
        case "add.Tensor" | "add.Scalar", [int() | float() as shift]:
            return {"op": "scale_shift", "scale": 1.0, "shift": float(shift)}
        case "sub.Tensor" | "sub.Scalar", [int() | float() as shift]:
            return {"op": "scale_shift", "scale": 1.0, "shift": -float(shift)}
        case "div.Tensor" | "div.Scalar", [int() | float() as divisor]:
            return {"op": "scale_shift", "scale": 1.0 / float(divisor), "shift": 0.0}
        case "clamp.default", [*bounds]:
            names = zip(("min", "max"), bounds, strict=False)
            return {"op": "clamp", **{name: float(each) for name, each in names if isinstance(each, int | float)}}
        case "clamp_min.default", [int() | float() as least]:
            return {"op": "clamp", "min": float(least)}
    return None


def _of_number(target: str, number: float) -> Step | None:
    match target:
        case "sub.Tensor":
            return {"op": "scale_shift", "scale": -1.0, "shift": float(number)}
        case "add.Tensor":
            return {"op": "scale_shift", "scale": 1.0, "shift": float(number)}
        case "mul.Tensor":
            return {"op": "scale_shift", "scale": float(number), "shift": 0.0}
    return None
