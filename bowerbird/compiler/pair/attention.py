"""Lowering sums over positions: target and dot-product attention, one step for all that share their scores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Cast, Concat, Permute, Product, Reduce
from bowerbird.compiler.pair.activation import activation_of
from bowerbird.compiler.pair.pooling import Pooling, Weights, match_pooling
from bowerbird.compiler.pair.program import Draft
from bowerbird.compiler.pair.scoring import Layer, LayerScores, ProductScores, match_scores
from bowerbird.compiler.rewrite import minus, plus, pointwise, reshaped, times

_LEAST_ADDED = -1e3
"""A position whose added term is this much below the greatest weighs nothing in a softmax."""
_ALL_ADDED = -1e7
"""Where all terms are this low, as masks are, scores beside them are lost in rounding: positions weigh alike."""


class Lowerer(Protocol):
    """What lowers nodes to names; see ``lower.py``."""

    draft: Draft

    def name(self, node: Node) -> str | None:
        """Return the name of a node's rows."""
        ...

    def sequence(self, node: Node) -> str:
        """Return the name of a request's value [length, width] as a sequence."""
        ...

    def step(self, node: Node, op: str, inputs: list[str], **more: Any) -> str:
        """Add a step."""
        ...


class Attentions:
    """All sums over positions of a pair graph, those of one scoring together: positions are scored once."""

    def __init__(self, nodes: Iterable[Node], build: Builder) -> None:
        self._build = build
        self._poolings: dict[int, Pooling] = {}
        self._groups: dict[tuple[object, ...], list[Node]] = {}
        self._made: dict[tuple[object, ...], str | None] = {}
        for node in nodes:
            found = match_pooling(node, build)
            if found is not None:
                self._poolings[id(node)] = found
                self._groups.setdefault(_key(found), []).append(node)

    def lower(self, lowerer: Lowerer, node: Node) -> str | None:
        """Return the name of the sum that a node is; None where it is none, or a part of it has no step."""
        found = self._poolings.get(id(node))
        if found is None:
            return None
        key = _key(found)
        group = self._groups[key]
        if key not in self._made:
            self._made[key] = self._scored(lowerer, [self._poolings[id(each)] for each in group], group[0])
        name = self._made[key]
        if name is None:
            return None
        if len(group) > 1:
            widths = [self._values(self._poolings[id(each)]).shape[-1] for each in group]
            start = sum(widths[: group.index(node)])
            name = lowerer.step(node, "slice", [name], start=start, stop=start + widths[group.index(node)])
        return self._corrected(lowerer, node, found, name)

    def _scored(self, lowerer: Lowerer, poolings: list[Pooling], node: Node) -> str | None:
        first = poolings[0]
        weights = first.weights
        scores = match_scores(weights.scores, weights.length, first.heads, self._build)
        values = [self._values(each) for each in poolings]
        joined = values[0] if len(values) == 1 else self._build.add(Concat(-1), values)
        seen = _seen(poolings, self._build)
        match scores:
            case LayerScores():
                return _of_layers(lowerer, node, scores, weights, joined, seen)
            case ProductScores() if weights.softmax:
                return _of_products(lowerer, node, scores, weights, joined, seen, first.heads)
            case ProductScores() if first.heads == 1:
                return _associated(lowerer, node, scores, joined, self._build)
        return None

    def _values(self, pooling: Pooling) -> Node:
        """Return the values with all that the request multiplies them by; and those factors, where they divide."""
        build, weights = self._build, pooling.weights
        values = _scaled(pooling, build)
        if not weights.added:
            return values
        power = pointwise(build, "exp.default", _shifted(weights, build))
        column = reshaped(build, power, (weights.length, 1))
        return build.add(Concat(-1), [times(build, values, column), column])

    def _corrected(self, lowerer: Lowerer, node: Node, pooling: Pooling, name: str) -> str | None:
        """Return the sum with what positions weigh where none is seen, and with the candidate's own factors."""
        build, weights = self._build, pooling.weights
        if weights.softmax and (weights.added or (weights.seen and not weights.safe)):
            alone = lowerer.name(_unseen(pooling, build))
            if alone is None:
                return None
            name = lowerer.step(node, "add", [name, alone])
        if weights.added:
            width = pooling.values.shape[-1]
            total = lowerer.step(node, "slice", [name], start=width, stop=width + 1)
            sums = lowerer.step(node, "slice", [name], start=0, stop=width)
            name = lowerer.step(node, "div", [sums, total])
        for op, each in weights.scales:
            scale = lowerer.name(each)
            if scale is None:
                return None
            name = lowerer.step(node, op, [name, scale])
        return name


def _key(pooling: Pooling) -> tuple[object, ...]:
    """Return what poolings of the same scores have in common."""
    found = pooling.weights
    own = tuple(id(each) for each in (*found.seen, *found.added))
    length = (found.length, pooling.heads, found.softmax, found.scale)
    alone = id(pooling.values) if pooling.heads > 1 or found.added else 0
    return (id(found.scores), own, length, alone)


def _scaled(pooling: Pooling, build: Builder) -> Node:
    values = pooling.values
    for each in pooling.weights.factors:
        values = times(build, values, reshaped(build, each, (math.prod(each.shape), 1)))
    return values


def _seen(poolings: list[Pooling], build: Builder) -> Node | None:
    """Return which positions count, bool [length]; None where all do."""
    weights = poolings[0].weights
    if weights.softmax:
        seen = [reshaped(build, each, (weights.length,)) for each in weights.seen]
        if weights.added:
            seen += [pointwise(build, "gt.Scalar", _shifted(weights, build), _LEAST_ADDED), _is_any(weights, build)]
        return _all(seen, "logical_and.default", build)
    each = [[factor for factor in pooling.weights.factors if math.prod(factor.shape) > 1] for pooling in poolings]
    if not all(each):
        return None
    counting = [
        _all(
            [pointwise(build, "ne.Scalar", reshaped(build, factor, (weights.length,)), 0) for factor in factors],
            "logical_and.default", build,
        )
        for factors in each
    ]  # fmt: skip
    return _all([one for one in counting if one is not None], "logical_or.default", build)


def _all(masks: list[Node], target: str, build: Builder) -> Node | None:
    total = masks[0] if masks else None
    for each in masks[1:]:
        if total is not each and total is not None:
            total = pointwise(build, target, total, each)
    return total


def _added(weights: Weights, build: Builder) -> Node:
    total = weights.added[0]
    for each in weights.added[1:]:
        total = plus(build, total, each)
    return reshaped(build, total, (weights.length,))


def _shifted(weights: Weights, build: Builder) -> Node:
    """Return the added terms less their greatest, which a softmax does not see."""
    total = _added(weights, build)
    return minus(build, total, build.add(Reduce("amax.default", (-1,)), [total]))


def _is_any(weights: Weights, build: Builder) -> Node:
    greatest = build.add(Reduce("amax.default", (-1,)), [_added(weights, build)])
    return pointwise(build, "gt.Scalar", greatest, _ALL_ADDED)


def _unseen(pooling: Pooling, build: Builder) -> Node:
    """Return the row that a softmax of nothing but masked scores makes of the values; zeros where something is seen."""
    weights = pooling.weights
    values = _scaled(pooling, build)
    mean = build.add(Reduce("mean.dim", (-2,)), [values])
    if weights.fill == -math.inf:
        mean = times(build, mean, build.scalar(math.nan))
    seen = _seen([pooling], build)
    assert seen is not None
    some = build.add(Reduce("amax.default", (-1,)), [build.add(Cast("float32"), [seen])])
    if weights.added:
        mean = build.add(Concat(-1), [mean, build.constant(torch.ones(1))])
    return pointwise(build, "where.self", pointwise(build, "gt.Scalar", some, 0), build.scalar(0.0), mean)


def _layer(draft: Draft, layer: Layer) -> dict[str, Any] | None:
    fields: dict[str, Any] = {"weight": draft.weight(layer.weight)}
    if layer.bias is not None:
        fields["bias"] = draft.weight(layer.bias)
    if layer.activation is not None:
        fields["activation"] = activation_of(layer.activation, draft, (len(layer.weight),))
        if fields["activation"] is None:
            return None
    return fields


def _of_layers(
    lowerer: Lowerer, node: Node, scores: LayerScores, weights: Weights, values: Node, seen: Node | None
) -> str | None:
    draft = lowerer.draft
    layers = list(scores.layers)
    if weights.scale != 1.0:
        layers.append(Layer(torch.full((1, 1), weights.scale), None, None))
    query, row = lowerer.name(scores.query), lowerer.name(scores.row)
    made = [_layer(draft, each) for each in layers]
    more: dict[str, Any] = {}
    if scores.activation is not None:
        more["activation"] = activation_of(scores.activation, draft, (len(scores.product),))
    if query is None or row is None or None in made or more.get("activation", ...) is None:
        return None
    if seen is not None:
        more["mask"] = _mask(lowerer, seen, draft.build)
    return lowerer.step(
        node, "target_attention", [query, row], history=lowerer.sequence(scores.keys),
        history_part=lowerer.sequence(scores.events), values=lowerer.sequence(values),
        product=draft.weight(scores.product), layers=made, softmax=weights.softmax, **more,
    )  # fmt: skip


def _of_products(
    lowerer: Lowerer, node: Node, scores: ProductScores, weights: Weights, values: Node, seen: Node | None, heads: int
) -> str | None:
    query = lowerer.name(scores.query)
    if query is None:
        return None
    more = {} if seen is None else {"mask": _mask(lowerer, seen, lowerer.draft.build)}
    return lowerer.step(
        node, "attention", [query], keys=lowerer.sequence(scores.keys), values=lowerer.sequence(values),
        heads=heads, scale=scores.scale * weights.scale, **more,
    )  # fmt: skip


def _associated(lowerer: Lowerer, node: Node, scores: ProductScores, values: Node, build: Builder) -> str | None:
    """Σ_l (q · k_l) v_l = q (Kᵀ V): a product with what the request makes once."""
    keys = times(build, scores.keys, build.scalar(scores.scale))
    matrix = build.add(Product(), [build.add(Permute((-1, -2)), [keys]), values])
    query, stacked = lowerer.name(scores.query), lowerer.name(reshaped(build, matrix, (math.prod(matrix.shape),)))
    return None if query is None or stacked is None else lowerer.step(node, "weighted_sum", [query, stacked])


def _mask(lowerer: Lowerer, seen: Node, build: Builder) -> str:
    return lowerer.sequence(reshaped(build, build.add(Cast("float32"), [seen]), (math.prod(seen.shape), 1)))
