"""Finding sums over positions: Σ_l w_l v_l, with weights of the candidate and values of the request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import (
    Cast,
    Expand,
    Permute,
    Pointwise,
    Product,
    Reduce,
    Ref,
    Reshape,
    Softmax,
)
from bowerbird.compiler.rewrite import operands, pointwise, reshaped, times

LEAST_FILL = -1e4
"""Scores that are filled with this or less weigh nothing in a softmax."""


@dataclass(frozen=True)
class Weights:
    """The weight of each position: a score, perhaps in a softmax over the positions.

    Inside the softmax ``scale`` multiplies scores, ``added`` (the request's, [length]) are added to them, and ``fill``
    stands for those that are not ``seen``; where nothing is seen, ``safe`` weights are 0. ``factors`` of the request
    ([length], a mask say, or one number) and ``scales`` of the candidate (an operator and one number) follow.
    """

    scores: Node
    length: int
    softmax: bool = False
    scale: float = 1.0
    fill: float = 0.0
    safe: bool = False
    seen: tuple[Node, ...] = ()
    added: tuple[Node, ...] = ()
    factors: tuple[Node, ...] = ()
    scales: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True)
class Pooling:
    """Σ_l w_l v_l for ``heads`` heads of their own weights; ``values`` are the request's, [length, heads · width]."""

    weights: Weights
    values: Node
    heads: int = 1


def match_pooling(node: Node, build: Builder) -> Pooling | None:
    """Return the sum over positions that a node is; None where it is none."""
    if node.stage != "pair" or node.dtype != "float32":
        return None
    if isinstance(node.operation, Product):
        return _of_product(node, build)
    if isinstance(node.operation, Reduce) and node.operation.target in ("sum.dim_IntList", "mean.dim"):
        return _of_sum(node, build)
    return None


def bare(node: Node) -> Node:
    """Return what a value is, seen through shapes that leave its elements and their order."""
    while isinstance(node.operation, Reshape | Expand | Permute | Cast):
        given = node.inputs[0]
        alike = math.prod(given.shape) == math.prod(node.shape) and given.dtype == node.dtype
        wide = [each for each in given.shape if each > 1]
        if not alike or (isinstance(node.operation, Permute) and len(wide) > 1):
            break
        node = given
    return node


def unrepeated(node: Node) -> Node:
    """Return what a value repeats."""
    node = bare(node)
    while isinstance(node.operation, Expand):
        node = bare(node.inputs[0])
    return node


def of_request(node: Node) -> bool:
    """Return whether all candidates share a value."""
    return node.stage in ("request", "constant")


def _of_product(node: Node, build: Builder) -> Pooling | None:
    first, second = node.inputs
    if of_request(first) and second.stage == "pair" and second.shape[-1] == 1 and math.prod(first.shape[:-2]) == 1:
        length = first.shape[-1]
        values = build.add(Permute((-1, -2)), [reshaped(build, first, first.shape[-2:])])
        return _pooling(second, values, length, build) if math.prod(second.shape) == length else None
    if not of_request(second) or first.stage != "pair" or len(second.shape) < 2 or first.shape[-2:-1] not in ((), (1,)):
        return None
    length, width = second.shape[-2:]
    heads = math.prod(second.shape[:-2])
    if math.prod(first.shape) != heads * length:
        return None
    values = reshaped(build, second, (heads, length, width))
    if heads > 1:
        values = build.add(Permute((-2, -3, -1)), [values])
    return _pooling(first, reshaped(build, values, (length, heads * width)), length, build, heads)


def _of_sum(node: Node, build: Builder) -> Pooling | None:
    """Σ over one dimension of weights [length, 1] times values [length, width], or of weights alone."""
    operation, given = node.operation, node.inputs[0]
    assert isinstance(operation, Reduce)
    rank = len(given.shape)
    gone = [dim for dim in operation.dims if given.shape[dim] > 1]
    if len(gone) != 1 or math.prod(given.shape[: gone[0] + rank]) != 1:
        return None
    length, width = given.shape[gone[0]], math.prod(given.shape[gone[0] + rank + 1 :])
    share = 1.0 if operation.target == "sum.dim_IntList" else 1.0 / length
    own, values = [], [build.constant(torch.full((1, 1), share))]
    for each in _factors(given):
        size = math.prod(unrepeated(each).shape)
        if of_request(each):
            place = gone[0] + len(each.shape)
            shape = (length if place >= 0 and each.shape[gone[0]] == length else 1, -1)
            values.append(reshaped(build, each, (shape[0], math.prod(each.shape) // shape[0])))
        elif size == length and each.shape[gone[0]] == length:
            own.append(each)
        else:
            return None
    if len(own) != 1 or any(each.shape[-1] not in (1, width) for each in values):
        return None
    total = values[0]
    for each in values[1:]:
        total = times(build, total, each)
    if total.shape != (length, width):
        total = build.add(Expand((length, width)), [total])
    return _pooling(unrepeated(own[0]), total, length, build)


def _factors(node: Node) -> list[Node]:
    """Return the factors of a product, seen through what repeats it."""
    found = operands(node, "mul.Tensor")
    if found is None or not all(isinstance(each, Node) for each in found) or node.stage != "pair":
        return [node]
    wide = [each for each in found if isinstance(each, Node)]
    weighed = [each for each in wide if each.stage == "pair" and math.prod(each.shape) == math.prod(node.shape)]
    if len(weighed) == 1 and math.prod(unrepeated(weighed[0]).shape) == math.prod(node.shape):
        return [each for part in wide for each in _factors(part)]
    return wide


def _pooling(weights: Node, values: Node, length: int, build: Builder, heads: int = 1) -> Pooling | None:
    found = _weights(weights, length, heads, build)
    if values.dtype != "float32" or found is None:
        return None
    return Pooling(found, values, heads)


def _weights(node: Node, length: int, heads: int, build: Builder) -> Weights | None:
    """Follow weights down to scores."""
    found = Weights(node, length)
    while True:
        node = bare(found.scores)
        if math.prod(node.shape) != heads * length or node.stage != "pair":
            return None
        step = _inside(found, node, build) if found.softmax else _outside(found, node, build)
        if step is None:
            return replace(found, scores=node)
        found = step


def _outside(found: Weights, node: Node, build: Builder) -> Weights | None:
    """Return the weights without the last step that made them; None where that is no factor, mask or softmax."""
    if isinstance(node.operation, Softmax):
        alone = math.prod(node.shape) == found.length or node.operation.dim == -1
        own = alone and node.shape[node.operation.dim] == found.length
        return replace(found, scores=node.inputs[0], softmax=True) if own else None
    if isinstance(node.operation, Pointwise) and node.operation.target == "nan_to_num.default":
        inner = bare(node.inputs[0])
        zero = node.operation.arguments[1:] in ((), (0.0,), (0,), (None,))
        return replace(found, scores=inner, safe=True) if zero and isinstance(inner.operation, Softmax) else None
    safe = _safe_softmax(node, build)
    if safe is not None:
        return replace(found, scores=safe, safe=True)
    masked = _masked(node, found.length, build)
    if masked is not None:
        scores, seen, fill = masked
        if fill != 0.0:
            return None
        return replace(found, scores=scores, factors=(*found.factors, build.add(Cast("float32"), [seen])))
    pair = operands(node, "mul.Tensor", "div.Tensor")
    is_product = isinstance(node.operation, Pointwise) and node.operation.target == "mul.Tensor"
    for first, second in (pair, pair[::-1] if is_product else pair) if pair else ():
        if not isinstance(first, Node) or math.prod(first.shape) != math.prod(node.shape) or first.stage != "pair":
            continue
        factor = build.scalar(float(second)) if isinstance(second, int | float) else second
        if not isinstance(factor, Node):
            return None
        size = math.prod(unrepeated(factor).shape)
        if of_request(factor) and size in (1, found.length):
            factor = factor if is_product else pointwise(build, "reciprocal.default", factor)
            return replace(found, scores=first, factors=(*found.factors, factor))
        if size == 1:
            scales = (("mul" if is_product else "div", unrepeated(factor)), *found.scales)
            return replace(found, scores=first, scales=scales)
    return None


def _safe_softmax(node: Node, build: Builder) -> Node | None:
    """Return the softmax of where(all x are -inf, 0, softmax(x)), as PyTorch's own attention writes it."""
    if not isinstance(node.operation, Pointwise) or node.operation.target != "where.self" or len(node.inputs) != 3:
        return None
    condition, filler, softmax = (bare(each) for each in node.inputs)
    if not isinstance(softmax.operation, Softmax) or filler.stage != "constant" or math.prod(filler.shape) != 1:
        return None
    for target in ("logical_not.default", "any.dim", "logical_not.default", "eq.Scalar"):
        operation = condition.operation
        if not isinstance(operation, Pointwise | Reduce) or operation.target != target:
            return None
        if target == "eq.Scalar" and operation != Pointwise(target, (Ref(0), -math.inf)):
            return None
        condition = bare(condition.inputs[0])
    return softmax if condition is bare(softmax.inputs[0]) and float(build.value(filler)) == 0.0 else None


def _inside(found: Weights, node: Node, build: Builder) -> Weights | None:
    """Return the weights without the last step that made the scores in a softmax; None where that is their own."""
    masked = _masked(node, found.length, build)
    if masked is not None:
        scores, seen, fill = masked
        fill *= found.scale
        if fill > LEAST_FILL or (found.seen and fill != found.fill):
            return None
        return replace(found, scores=scores, seen=(*found.seen, seen), fill=fill)
    pair = operands(node, "mul.Tensor", "div.Tensor")
    if pair is not None and isinstance(pair[0], Node) and pair[0].stage == "pair":
        number = pair[1]
        if isinstance(number, Node) and number.stage == "constant" and math.prod(number.shape) == 1:
            number = float(build.value(number))
        if isinstance(number, int | float) and number > 0:
            is_product = isinstance(node.operation, Pointwise) and node.operation.target == "mul.Tensor"
            return replace(found, scores=pair[0], scale=found.scale * (number if is_product else 1 / number))
    pair = operands(node, "add.Tensor", "sub.Tensor")
    is_sum = isinstance(node.operation, Pointwise) and node.operation.target == "add.Tensor"
    for first, second in (pair, pair[::-1] if is_sum else pair) if pair else ():
        if not isinstance(first, Node) or not isinstance(second, Node) or first.stage != "pair":
            continue
        if of_request(second) and math.prod(unrepeated(second).shape) == found.length and second.stage == "request":
            term = times(build, unrepeated(second), build.scalar(found.scale if is_sum else -found.scale))
            return replace(found, scores=first, added=(*found.added, term))
    return None


def _masked(node: Node, length: int, build: Builder) -> tuple[Node, Node, float] | None:
    """Return (scores, what is seen, what fills the rest) where scores are masked by the request."""
    if not isinstance(node.operation, Pointwise) or node.operation.target != "where.self" or len(node.inputs) != 3:
        return None
    condition, *branches = node.inputs
    if not of_request(condition) or math.prod(unrepeated(condition).shape) != length:
        return None
    condition = unrepeated(condition)
    for filler, scores, seen in (
        (branches[1], branches[0], condition),
        (branches[0], branches[1], pointwise(build, "logical_not.default", condition)),
    ):
        if filler.stage == "constant" and math.prod(unrepeated(filler).shape) == 1 and scores.stage == "pair":
            return scores, seen, float(build.value(unrepeated(filler)))
    return None
