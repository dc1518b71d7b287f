"""Laws that bring together again, within a stage, what was taken apart to find the stages."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import groupby

from bowerbird.compiler.graph import Builder, Node, RowGraph
from bowerbird.compiler.operations import Cast, Concat, Pointwise, Reshape, Stack
from bowerbird.compiler.rewrite import repeated, rewrite
from bowerbird.compiler.staged import StagedProgram


def gathered(program: StagedProgram) -> StagedProgram:
    """Return the program with operators that stand side by side as one, in each of its graphs."""
    return StagedProgram(_gathered(program.request), _gathered(program.item), _gathered(program.pair))


def _gathered(graph: RowGraph) -> RowGraph:
    return rewrite(graph, [PointwiseTogether(), StackOfNumbers()]).graph


class PointwiseTogether:
    """[f(a); f(b)] = f([a; b]): hundreds of numbers are scaled by one operator, not by one for each."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the concatenation of fewer parts, where neighbours are made by one operator."""
        if node.operation != Concat(-1):
            return None
        parts: list[Node] = []
        for kind, run in groupby(node.inputs, _kind):
            neighbours = list(run)
            together = _together(build, neighbours) if kind is not None and len(neighbours) > 1 else None
            parts += neighbours if together is None else [together]
        if len(parts) == len(node.inputs):
            return None
        return parts[0] if len(parts) == 1 else build.add(Concat(-1), parts, node.where)


class StackOfNumbers:
    """[a; b; …] of single numbers, each made a vector of one element, is one stack."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the stack, where all parts are single numbers."""
        alike = all(part.operation == Reshape((1,)) and part.inputs[0].shape == () for part in node.inputs)
        if node.operation != Concat(-1) or not alike:
            return None
        return build.add(Stack(), [part.inputs[0] for part in node.inputs], node.where)


def _kind(part: Node) -> Hashable:
    """Return what neighbours must have in common to be one; None for an operator that is not of its elements alone."""
    if not isinstance(part.operation, Pointwise | Cast) or part.stage == "constant":
        return None
    return (part.operation, part.dtype, tuple((each.dtype, each.stage) for each in part.inputs))


def _together(build: Builder, parts: list[Node]) -> Node | None:
    operands = [_joined(build, list(column), parts) for column in zip(*(part.inputs for part in parts), strict=True)]
    if any(each is None for each in operands):
        return None
    return build.add(parts[0].operation, [each for each in operands if each is not None], parts[0].where)


def _joined(build: Builder, column: list[Node], parts: list[Node]) -> Node | None:
    """Return one operand of all parts side by side; None where they do not stand so."""
    first = column[0]
    pairs = list(zip(column, parts, strict=True))
    if first.stage == "constant":
        if all(each is first for each in column) and first.shape[-1:] in ((), (1,)):
            return first
        column = [repeated(build, each, (*each.shape[:-1], part.shape[-1])) for each, part in pairs]
    elif any(each.shape != part.shape for each, part in pairs):
        return None
    alike = all(each.shape[:-1] == column[0].shape[:-1] for each in column)
    return build.add(Concat(-1), column) if alike else None
