"""Softmax attention within a request's tensors, found by what it computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Pointwise, Product, Reduce, Ref, Reshape, Softmax
from bowerbird.compiler.rewrite import binary, operands


@dataclass(frozen=True)
class Attention:
    """softmax(scale · query keys) values, for keys [..., width, positions].

    ``unseen`` is true at positions that do not count, one truth value each; a sum over none is 0.
    """

    query: Node
    keys: Node
    values: Node
    scale: float
    unseen: Node | None


def match_attention(node: Node, uses: Callable[[Node], int], build: Builder) -> Attention | None:
    """Return the attention that a product is, None where it is none."""
    if not isinstance(node.operation, Product):
        return None
    weights, values = node.inputs
    scores, safe = _softmax(weights, build)
    if scores is None or uses(weights) > 1:
        return None
    unseen = _unseen(scores, build)
    if unseen is not None and not safe:
        return None
    if unseen is not None:
        scores = unseen[1]
    scores, scale = _scaled(scores)
    if not isinstance(scores.operation, Product) or values.shape[:-2] != node.shape[:-2]:
        return None
    query, keys = scores.inputs
    if query.shape[:-2] != node.shape[:-2] or keys.shape[:-2] != node.shape[:-2]:
        return None
    return Attention(query, keys, values, scale, None if unseen is None else unseen[0])


def _softmax(weights: Node, build: Builder) -> tuple[Node | None, bool]:
    """Return what weights are the softmax of, and whether they are 0 where every score is -infinity."""
    if weights.operation == Softmax(-1):
        return weights.inputs[0], False
    operation = weights.operation
    if not isinstance(operation, Pointwise) or operation.target != "where.self":
        return None, False
    chosen = [weights.inputs[each.position] if isinstance(each, Ref) else each for each in operation.arguments]
    condition, zero, power = chosen
    if not isinstance(condition, Node) or not isinstance(power, Node) or power.operation != Softmax(-1):
        return None, False
    scores = power.inputs[0]
    return (scores, True) if _is_all(zero, 0.0, build) and _is_nothing_seen(condition, scores) else (None, False)


def _is_all(node: object, value: float, build: Builder) -> bool:
    """Return whether a node is a constant of one value."""
    return isinstance(node, Node) and node.stage == "constant" and bool((build.value(node) == value).all())


def _is_nothing_seen(condition: Node, scores: Node) -> bool:
    """Return whether a condition says that every score is -infinity: not any (not (score == -infinity))."""
    some = _negated(_bare(condition))
    if some is None or not isinstance(_bare(some).operation, Reduce):
        return False
    any_seen = _bare(some)
    assert isinstance(any_seen.operation, Reduce)
    compared = _negated(any_seen.inputs[0])
    is_any = any_seen.operation.target == "any.dim" and any_seen.operation.dims == (-1,)
    return is_any and compared is not None and operands(compared, "eq.Scalar") == (scores, -math.inf)


def _negated(node: Node) -> Node | None:
    nots = ("logical_not.default", "bitwise_not.default")
    return node.inputs[0] if isinstance(node.operation, Pointwise) and node.operation.target in nots else None


def _bare(node: Node) -> Node:
    while isinstance(node.operation, Reshape):
        node = node.inputs[0]
    return node


def _unseen(scores: Node, build: Builder) -> tuple[Node, Node] | None:
    """Return the mask and the scores where masked positions are made -infinity, or have it added."""
    added = binary(scores, "add.Tensor")
    for given, term in (added, added[::-1]) if added else ():
        chosen = _chosen(_bare(term))
        if chosen is not None and _is_all(chosen[1], -math.inf, build) and _is_all(chosen[2], 0.0, build):
            return _mask(chosen[0], given)
    chosen = _chosen(scores)
    return _mask(chosen[0], chosen[2]) if chosen is not None and _is_all(chosen[1], -math.inf, build) else None


def _chosen(node: Node) -> tuple[Node, Node, Node] | None:
    """Return the condition and the two values that a node chooses between."""
    operation = node.operation
    if not isinstance(operation, Pointwise) or operation.target != "where.self" or len(node.inputs) != 3:
        return None
    condition, then, otherwise = (node.inputs[each.position] for each in operation.arguments if isinstance(each, Ref))
    return condition, then, otherwise


def _mask(mask: Node, scores: Node) -> tuple[Node, Node] | None:
    """Return a mask that has one truth value for each position, with the scores."""
    fits = math.prod(mask.shape) == scores.shape[-1] and mask.shape[-1:] == scores.shape[-1:]
    return (mask, scores) if fits else None


def _scaled(scores: Node) -> tuple[Node, float]:
    found = operands(scores, "mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar")
    if found is None or not isinstance(found[0], Node) or not isinstance(found[1], int | float):
        return scores, 1.0
    division = isinstance(scores.operation, Pointwise) and scores.operation.target.startswith("div")
    return found[0], 1.0 / found[1] if division else float(found[1])
