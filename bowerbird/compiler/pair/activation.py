"""Activations as the native engine's steps spell them."""

from __future__ import annotations

from typing import Any

from bowerbird.compiler.operations import Pointwise, Ref
from bowerbird.compiler.pair.program import Step

_UNARY = {
    "relu.default": "relu", "silu.default": "silu", "sigmoid.default": "sigmoid", "tanh.default": "tanh",
    "softplus.default": "softplus", "exp.default": "exp", "log.default": "log", "sqrt.default": "sqrt",
    "rsqrt.default": "rsqrt", "neg.default": "neg", "abs.default": "abs",
}  # fmt: skip


def activation_of(operation: object) -> Step | None:
    """Return an activation as the engine's steps spell it; None where it has none."""
    if not isinstance(operation, Pointwise) or sum(isinstance(each, Ref) for each in operation.arguments) != 1:
        return None
    rest: tuple[Any, ...] = operation.arguments[1:]
    if operation.target in _UNARY:
        return {"op": _UNARY[operation.target]} if not rest or operation.target != "softplus.default" else None
    match operation.target, rest:
        case "leaky_relu.default", (*slope,):
            return {"op": "leaky_relu", "slope": float(slope[0]) if slope else 0.01}
        case "gelu.default", (*kind,):
            return {"op": "gelu_tanh" if kind == ["tanh"] else "gelu"}
        case "elu.default", (*alpha,) if len(alpha) < 2:
            return {"op": "elu", "alpha": float(alpha[0]) if alpha else 1.0}
        case "pow.Tensor_Scalar", (2 | 2.0,):
            return {"op": "square"}
        case "mul.Tensor" | "mul.Scalar", (int() | float() as factor,):
            return {"op": "scale_shift", "scale": float(factor), "shift": 0.0}
        case "add.Tensor" | "add.Scalar", (int() | float() as shift,):
            return {"op": "scale_shift", "scale": 1.0, "shift": float(shift)}
        case "sub.Tensor" | "sub.Scalar", (int() | float() as shift,):
            return {"op": "scale_shift", "scale": 1.0, "shift": -float(shift)}
        case "div.Tensor" | "div.Scalar", (int() | float() as divisor,):
            return {"op": "scale_shift", "scale": 1.0 / float(divisor), "shift": 0.0}
        case "clamp.default", (*bounds,):
            names = zip(("min", "max"), bounds, strict=False)
            return {"op": "clamp", **{name: float(each) for name, each in names if isinstance(each, int | float)}}
    return None
