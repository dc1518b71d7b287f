"""Rewriting a row graph: small laws of algebra, applied until none applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from bowerbird.compiler.graph import Builder, Node, RowGraph, Where, rebuilt
from bowerbird.compiler.operations import Expand, Literal, Pointwise, Ref, Reshape, Shape
from bowerbird.compiler.stage import STAGES

_PASSES = 30


class Rewrite(Protocol):
    """One law: from a node to an equal one that is computed sooner, or with less."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the equal node, or None where the law does not apply or would gain nothing."""
        ...


@dataclass(frozen=True)
class Applied:
    """A law that was applied, and where the value comes from."""

    rewrite: str
    where: Where


@dataclass
class Rewriting:
    """A rewritten graph and what was done to it."""

    graph: RowGraph
    applied: list[Applied] = field(default_factory=list)


def rewrite(graph: RowGraph, laws: Sequence[Rewrite]) -> Rewriting:
    """Return the graph rewritten until no law applies."""
    done = Rewriting(graph)
    for _ in range(_PASSES):
        outputs = done.graph.outputs
        new = rebuilt(graph.builder, outputs.values(), lambda node: _changed(node, graph.builder, laws, done.applied))
        changed = {name: new[id(node)] for name, node in outputs.items()}
        if all(changed[name] is node for name, node in outputs.items()):
            break
        done.graph = RowGraph(graph.builder, changed)
    return done


def _changed(node: Node, build: Builder, laws: Sequence[Rewrite], applied: list[Applied]) -> Node:
    build.place = node.where
    for law in laws:
        result = law.apply(node, build)
        if result is not None and result is not node:
            assert result.shape == node.shape and result.dtype == node.dtype, (law, node, result)
            applied.append(Applied(type(law).__name__, node.where))
            return result
    return node


def pointwise(build: Builder, target: str, *operands: Node | Literal) -> Node:
    """Return the node of a pointwise operator on nodes and numbers."""
    nodes = [each for each in operands if isinstance(each, Node)]
    places = iter(range(len(nodes)))
    arguments = tuple(Ref(next(places)) if isinstance(each, Node) else each for each in operands)
    return build.add(Pointwise(target, arguments), nodes)


def repeated(build: Builder, node: Node, shape: Shape) -> Node:
    """Return a node's values repeated to a shape."""
    return node if node.shape == shape else build.add(Expand(shape), [node])


def plus(build: Builder, first: Node, second: Node) -> Node:
    """Return the node of a sum."""
    return pointwise(build, "add.Tensor", first, second)


def minus(build: Builder, first: Node, second: Node) -> Node:
    """Return the node of a difference."""
    return pointwise(build, "sub.Tensor", first, second)


def times(build: Builder, first: Node, second: Node) -> Node:
    """Return the node of an elementwise product."""
    return pointwise(build, "mul.Tensor", first, second)


def reshaped(build: Builder, node: Node, shape: Shape) -> Node:
    """Return a node's values in another shape."""
    return node if node.shape == shape else build.add(Reshape(shape), [node])


def binary(node: Node, *targets: str) -> tuple[Node, Node] | None:
    """Return the two nodes that a node adds (or whatever ``targets`` do), None where it does not."""
    operation = node.operation
    if isinstance(operation, Pointwise) and operation.target in targets and len(operation.arguments) >= 2:
        first, second, *rest = operation.arguments
        if isinstance(first, Ref) and isinstance(second, Ref) and all(each == 1 for each in rest):
            return node.inputs[first.position], node.inputs[second.position]
    return None


def operands(node: Node, *targets: str) -> tuple[Node | Literal, Node | Literal] | None:
    """Return the nodes or numbers that a pointwise operator combines, one of ``targets`` where any are named."""
    operation = node.operation
    if not isinstance(operation, Pointwise) or (targets and operation.target not in targets):
        return None
    if len(operation.arguments) != 2:
        return None
    first, second = (node.inputs[each.position] if isinstance(each, Ref) else each for each in operation.arguments)
    return first, second


def along_last(value: Node, width: int) -> bool:
    """Return whether a constant varies along a last dimension of ``width`` at most."""
    return value.stage == "constant" and all(each == 1 for each in value.shape[:-1]) and value.shape[-1:] in (
        (), (1,), (width,),
    )  # fmt: skip


def by_stage(build: Builder, concat: Node, adjacent: bool = False) -> list[Node]:
    """Return a concatenation's parts, those of one stage joined: in the order of the stages, or only ``adjacent`` ones.

    Joined in the order of the stages, the parts are no longer in the concatenation's own order.
    """
    parts = list(concat.inputs) if adjacent else sorted(concat.inputs, key=lambda part: STAGES.index(part.stage))
    groups = [list(group) for _, group in groupby(parts, key=lambda part: part.stage)]
    return [group[0] if len(group) == 1 else build.add(concat.operation, group) for group in groups]
