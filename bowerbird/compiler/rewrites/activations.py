"""Activations that users spell out, as one operation each: before other laws fold their factors into layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bowerbird.compiler.graph import Builder, Node, RowGraph
from bowerbird.compiler.operations import Dice, Literal, Operation, Pointwise, Prelu, Ref
from bowerbird.compiler.rewrite import along_last, binary, operands

_DEPTH = 8
"""How many operators an activation may be made of, one below the other."""
_Polynomial = dict[tuple[int, int], Tensor]
"""Coefficients, along the last dimension, by the powers of x and of a sigmoid of it."""


def with_activations(graph: RowGraph) -> RowGraph:
    """Return the graph with every PReLU and Dice as one operation, however it is written."""
    build = graph.builder
    new: dict[int, Node] = {}
    for node in graph.nodes():
        found = _prelu(node) or _dice(node, build)
        operation, inputs = found or (node.operation, node.inputs)
        given = [new.get(id(each), each) for each in inputs]
        same = found is None and all(a is b for a, b in zip(given, inputs, strict=True))
        new[id(node)] = node if same else build.add(operation, given, node.where)
    return RowGraph(build, {name: new[id(node)] for name, node in graph.outputs.items()})


def _prelu(node: Node) -> tuple[Prelu, tuple[Node, ...]] | None:
    """where(x > 0, x, a · x)."""
    if not _is(node, "where.self") or len(node.inputs) != 3 or node.dtype != "float32":
        return None
    condition, given, scaled = node.inputs
    operation = condition.operation
    above = isinstance(operation, Pointwise) and operation.target in ("gt.Scalar", "ge.Scalar")
    if not above or not isinstance(operation, Pointwise) or operation.arguments != (Ref(0), 0):
        return None
    pair = binary(scaled, "mul.Tensor")
    for first, slope in (pair, pair[::-1]) if pair else ():
        if first is given and condition.inputs[0] is given and given.shape and along_last(slope, given.shape[-1]):
            return Prelu(), (given, slope)
    return None


@dataclass(frozen=True)
class _Sigmoid:
    """sigmoid(scale · base + shift)."""

    node: Node
    base: Node
    scale: Tensor
    shift: Tensor


def _dice(node: Node, build: Builder) -> tuple[Operation, tuple[Node, ...]] | None:
    """a x + (1 - a) x p with p a sigmoid of an affine map of x, expanded as a polynomial in x and p."""
    if node.dtype != "float32" or not node.shape or node.stage == "constant":
        return None
    if not any(_is(node, each) for each in ("add.Tensor", "sub.Tensor", "mul.Tensor")):
        return None
    for sigmoid in _sigmoids(node, build, _DEPTH):
        if sigmoid.base.shape != node.shape:
            continue
        found = _polynomial(node, sigmoid, build, _DEPTH)
        if found is None or any(bool(value.any()) for powers, value in found.items() if powers not in ((1, 0), (1, 1))):
            continue
        width = node.shape[-1]
        alpha, rest = (found.get(powers, torch.zeros(())).reshape(-1).expand(width) for powers in ((1, 0), (1, 1)))
        scale, shift = (value.reshape(-1).expand(width) for value in (sigmoid.scale, sigmoid.shift))
        if not torch.allclose(alpha + rest, torch.ones(()), atol=1e-6) or not bool((scale > 0).all()):
            continue
        if not bool(alpha.any() | shift.any() | (scale != 1).any()):
            return Pointwise("silu.default", (Ref(0),)), (sigmoid.base,)
        return Dice(), (sigmoid.base, *(build.constant(value) for value in (alpha, scale, shift)))
    return None


def _sigmoids(node: Node, build: Builder, depth: int) -> Iterator[_Sigmoid]:
    if _is(node, "sigmoid.default"):
        base, scale, shift = node.inputs[0], torch.ones(()), torch.zeros(())
        while (step := _affine(base, build)) is not None:
            base, factor, term = step
            scale, shift = scale * factor, scale * term + shift
        yield _Sigmoid(node, base, scale, shift)
    elif depth and isinstance(node.operation, Pointwise):
        for each in node.inputs:
            yield from _sigmoids(each, build, depth - 1)


def _affine(node: Node, build: Builder) -> tuple[Node, Tensor, Tensor] | None:
    """Return (y, a, b) of a · y + b."""
    one, zero = torch.ones(()), torch.zeros(())
    pair = operands(node)
    if pair is None or not isinstance(node.operation, Pointwise):
        return None
    values = [_number(each, node, build) for each in pair]
    for place in (0, 1):
        other, value = pair[1 - place], values[place]
        if value is None or not isinstance(other, Node) or other.shape != node.shape or other.stage == "constant":
            continue
        match node.operation.target:
            case "add.Tensor":
                return other, one, value
            case "mul.Tensor":
                return other, value, zero
            case "sub.Tensor":
                return (other, one, -value) if place else (other, -one, value)
            case "div.Tensor" if place:
                return other, 1 / value, zero
    return None


def _polynomial(node: Node, sigmoid: _Sigmoid, build: Builder, depth: int) -> _Polynomial | None:
    if node is sigmoid.base:
        return {(1, 0): torch.ones(())}
    if node is sigmoid.node:
        return {(0, 1): torch.ones(())}
    pair = operands(node)
    if pair is None or not depth or not isinstance(node.operation, Pointwise):
        return None
    parts = []
    for each in pair:
        value = _number(each, node, build)
        if value is None and isinstance(each, Node):
            parts.append(_polynomial(each, sigmoid, build, depth - 1))
        else:
            parts.append(None if value is None else {(0, 0): value})
    first, second = parts
    if first is None or second is None:
        return None
    match node.operation.target:
        case "add.Tensor":
            return _sum(first, second, 1.0)
        case "sub.Tensor":
            return _sum(first, second, -1.0)
        case "mul.Tensor":
            return _product(first, second)
        case "div.Tensor" if set(second) == {(0, 0)}:
            return _product(first, {(0, 0): 1 / second[0, 0]})
    return None


def _sum(first: _Polynomial, second: _Polynomial, sign: float) -> _Polynomial:
    zero = torch.zeros(())
    return {key: first.get(key, zero) + sign * second.get(key, zero) for key in (first | second)}


def _product(first: _Polynomial, second: _Polynomial) -> _Polynomial:
    result: _Polynomial = {}
    for (i, j), a in first.items():
        for (k, m), b in second.items():
            key = (i + k, j + m)
            result[key] = result.get(key, torch.zeros(())) + a * b
    return result


def _number(operand: Node | Literal, node: Node, build: Builder) -> Tensor | None:
    """Return a constant that does not vary but along the last dimension."""
    if isinstance(operand, Node):
        return build.value(operand).reshape(-1) if along_last(operand, node.shape[-1]) else None
    return torch.tensor(float(operand)) if isinstance(operand, int | float) else None


def _is(node: Node, target: str) -> bool:
    return isinstance(node.operation, Pointwise) and node.operation.target == target
