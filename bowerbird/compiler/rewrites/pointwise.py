"""Laws that carry pointwise operators into concatenations and out of repetitions."""

from __future__ import annotations

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Cast, Concat, Expand, Pointwise, Slice


class PointwiseOfConcat:
    """f([a; b]) = [f(a); f(b)], and so with several operands that are cut alike, are constant, or do not vary there.

    A field that is the user's or the item's own is then scaled, squared or rectified at its own stage.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the concatenation, where a part of it is earlier than the whole."""
        if not isinstance(node.operation, Pointwise | Cast) or node.stage != "pair":
            return None
        mixed = [each for each in node.inputs if isinstance(each.operation, Concat) and each.shape == node.shape]
        if not mixed:
            return None
        operation = mixed[0].operation
        assert isinstance(operation, Concat)
        dim = operation.dim
        lengths = [part.shape[dim] for part in mixed[0].inputs]
        pieces = [_pieces(build, each, dim, lengths, node) for each in node.inputs]
        if any(each is None for each in pieces):
            return None
        parts = [
            build.add(node.operation, [column[place] for column in pieces if column is not None], node.where)
            for place in range(len(lengths))
        ]
        if all(part.stage == "pair" for part in parts):
            return None
        return build.add(Concat(dim), parts, node.where)


def _pieces(build: Builder, operand: Node, dim: int, lengths: list[int], node: Node) -> list[Node] | None:
    """Return an operand's pieces for each part; None where it cannot be cut so."""
    if len(operand.shape) < -dim or operand.shape[dim] == 1:
        return [operand] * len(lengths) if operand.stage != "pair" else None
    if operand.operation == Concat(dim) and [each.shape[dim] for each in operand.inputs] == lengths:
        full = len(operand.shape) == len(node.shape)
        return list(operand.inputs) if full else None
    if operand.stage != "constant":
        return None
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    return [
        build.add(Slice(dim, start, start + length), [operand]) for start, length in zip(starts, lengths, strict=True)
    ]


class PointwiseOfExpand:
    """f(expand(x), y) = f(x, y): pointwise operators repeat by themselves; what is repeated in all is so afterwards."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the operator on what was not yet repeated."""
        if not isinstance(node.operation, Pointwise):
            return None
        inputs = [each.inputs[0] if isinstance(each.operation, Expand) else each for each in node.inputs]
        if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
            return None
        result = build.add(node.operation, inputs, node.where)
        return result if result.shape == node.shape else build.add(Expand(node.shape), [result])
