"""Pointwise operators as a tensor program's functions of numbers."""

from __future__ import annotations

import math

import torch

from bowerbird.compiler.operations import Argument, Pointwise, Ref

_ONE = {
    "relu.default": "relu", "silu.default": "silu", "sigmoid.default": "sigmoid", "tanh.default": "tanh",
    "exp.default": "exp", "log.default": "log", "log1p.default": "log1p", "sqrt.default": "sqrt",
    "rsqrt.default": "rsqrt", "reciprocal.default": "reciprocal", "neg.default": "neg", "abs.default": "abs",
    "sign.default": "sign", "softplus.default": "softplus", "logical_not.default": "not", "bitwise_not.default": "not",
    "isnan.default": "is_nan",
}  # fmt: skip
_TWO = {
    "add.Tensor": "add", "sub.Tensor": "sub", "mul.Tensor": "mul", "div.Tensor": "div", "maximum.default": "maximum",
    "minimum.default": "minimum", "eq.Tensor": "eq", "ne.Tensor": "ne", "lt.Tensor": "lt", "le.Tensor": "le",
    "gt.Tensor": "gt", "ge.Tensor": "ge", "logical_and.default": "and", "logical_or.default": "or",
    "clamp.Tensor": "maximum", "bitwise_and.Tensor": "and", "bitwise_or.Tensor": "or", "where.self": "where",
    **{f"{name}.Scalar": name for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge")},
}  # fmt: skip
_TO_TRUTHS = frozenset({"not", "and", "or", "where", "eq", "ne", "lt", "le", "gt", "ge", "is_nan"})
"""The functions whose results are 1 and 0 where an operator's are truth values."""

Found = tuple[str, list[int | float], tuple[float, ...]]
"""A function, its operands (an input's number as int, a constant as float), and its own numbers."""


def element_of(operation: Pointwise, truths: bool) -> Found | None:
    """Return the function that an operator is, None where a program has none; ``truths`` says what its results are."""
    found = _with_numbers(operation.target, operation.arguments) or _plain(operation.target, operation.arguments)
    return None if found is None or (truths and found[0] not in _TO_TRUTHS) else found


def _plain(target: str, arguments: tuple[Argument, ...]) -> Found | None:
    operands = [_operand(each) for each in arguments]
    places = [each for each in operands if each is not None]
    if target in _ONE and len(operands) == 1 and isinstance(arguments[0], Ref):
        return _ONE[target], places, ()
    count = 3 if target == "where.self" else 2
    if target in _TWO and len(places) == len(operands) == count:
        return _TWO[target], places, ()
    return None


def _operand(argument: Argument) -> int | float | None:
    if isinstance(argument, Ref):
        return argument.position
    return float(argument) if isinstance(argument, int | float) else None


def _with_numbers(target: str, arguments: tuple[Argument, ...]) -> Found | None:
    match target, arguments:
        case "leaky_relu.default", (Ref(place), *slope):
            return "leaky_relu", [place], (_number(slope, 0, 0.01),)
        case "elu.default", (Ref(place), *alpha) if len(alpha) < 2:
            return "elu", [place], (_number(alpha, 0, 1.0),)
        case "gelu.default", (Ref(place), *kind):
            return "gelu_tanh" if kind == ["tanh"] else "gelu", [place], ()
        case "pow.Tensor_Scalar", (Ref(place), 2 | 2.0):
            return "square", [place], ()
        case "clamp.default", (Ref(place), *bounds):
            return "clamp", [place], (_number(bounds, 0, -math.inf), _number(bounds, 1, math.inf))
        case "clamp_min.default", (Ref(place), int() | float() as least):
            return "clamp", [place], (float(least), math.inf)
        case "nan_to_num.default", (Ref(place), *instead):
            greatest = torch.finfo(torch.float32).max
            return "nan_to_num", [place], tuple(
                _number(instead, number, default) for number, default in enumerate((0.0, greatest, -greatest))
            )
        case "mul.Tensor" | "mul.Scalar", (Ref(place), int() | float() as factor):
            return "scale_shift", [place], (float(factor), 0.0)
        case "add.Tensor" | "add.Scalar", (Ref(place), int() | float() as term):
            return "scale_shift", [place], (1.0, float(term))
        case "sub.Tensor" | "sub.Scalar", (Ref(place), int() | float() as term):
            return "scale_shift", [place], (1.0, -float(term))
    return None


def _number(arguments: list[Argument], place: int, default: float) -> float:
    value = arguments[place] if place < len(arguments) else None
    return float(value) if isinstance(value, int | float) else default
