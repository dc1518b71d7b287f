"""Laws that fold constant factors and shifts (batch normalisation, standardised inputs) into linear layers."""

from __future__ import annotations

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Linear
from bowerbird.compiler.rewrite import along_last, binary, plus, repeated, reshaped, times


class ScaleOfLinear:
    """c · (W x + b) = (c W) x + c b, with c constant: a factor for each output."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return one linear layer."""
        found = _with_constant(node, "mul.Tensor")
        if found is None or not isinstance(found[0].operation, Linear):
            return None
        (given, weight, *bias), factor = found[0].inputs, _vector(build, found[1], node.shape[-1])
        scaled = times(build, weight, reshaped(build, factor, (node.shape[-1], 1)))
        return build.add(Linear(), [given, scaled, *(times(build, each, factor) for each in bias)])


class ShiftOfLinear:
    """(W x + b) + c = W x + (b + c), with c constant."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return one linear layer."""
        found = _with_constant(node, "add.Tensor")
        if found is None or not isinstance(found[0].operation, Linear):
            return None
        (given, weight, *bias), shift = found[0].inputs, _vector(build, found[1], node.shape[-1])
        return build.add(Linear(), [given, weight, plus(build, bias[0], shift) if bias else shift])


class LinearOfScale:
    """W (c · x) + b = (W diag c) x + b, with c constant: a factor for each input."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return one linear layer."""
        found = _with_constant(node.inputs[0], "mul.Tensor") if isinstance(node.operation, Linear) else None
        if found is None:
            return None
        _, weight, *bias = node.inputs
        return build.add(Linear(), [found[0], times(build, weight, _vector(build, found[1], weight.shape[1])), *bias])


class LinearOfShift:
    """W (x + c) + b = W x + (W c + b), with c constant."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return one linear layer."""
        found = _with_constant(node.inputs[0], "add.Tensor") if isinstance(node.operation, Linear) else None
        if found is None:
            return None
        _, weight, *bias = node.inputs
        shift = build.add(Linear(), [_vector(build, found[1], weight.shape[1]), weight, *bias])
        return build.add(Linear(), [found[0], weight, shift])


def _with_constant(node: Node, target: str) -> tuple[Node, Node] | None:
    """Return (value, constant) where a node combines these and the value has the result's shape."""
    found = binary(node, target)
    if found is None:
        return None
    for value, other in (found, found[::-1]):
        alike = value.shape == node.shape and value.dtype == node.dtype
        if value.stage != "constant" and alike and node.shape and along_last(other, node.shape[-1]):
            return value, other
    return None


def _vector(build: Builder, constant: Node, width: int) -> Node:
    """Return a constant as a vector [width]."""
    flat = reshaped(build, constant, constant.shape[-1:])
    return repeated(build, flat, (width,))
