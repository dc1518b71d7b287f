"""Finding target attention in a pair graph: scores of events by layers over q · k, and their weighted sum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Cast, Input, Linear, Pointwise, Ref, Reshape, Softmax
from bowerbird.compiler.pair.activation import activation_of
from bowerbird.compiler.pair.program import Draft
from bowerbird.compiler.rewrite import binary


class Lowerer(Protocol):
    """What lowers nodes to names; see ``lower.py``."""

    draft: Draft

    def name(self, node: Node) -> str | None:
        """Return the name of a node's rows."""
        ...

    def step(self, node: Node, op: str, inputs: list[str], **more: Any) -> str:
        """Add a step."""
        ...


@dataclass(frozen=True)
class TargetAttention:
    """Σ_l w_l v_l with w_l = f(layers(activation(P (q · k_l) + a + b_l))), masked, perhaps a softmax, perhaps scaled.

    ``rows`` are the terms a (one row per candidate), ``events`` the term b [length, hidden] of the request; ``scales``
    are numbers of the request that the result is multiplied with or divided by.
    """

    query: Node
    history: Node
    product: Node
    rows: list[Node]
    events: Node
    layers: list[tuple[Node, Pointwise | None]]
    activation: Pointwise | None
    mask: tuple[Node, bool] | None
    softmax: bool
    values: Node
    scales: list[tuple[str, Node]]

    def lower(self, lowerer: Lowerer, node: Node) -> str | None:
        """Return the name of the pooled values; None where a part of it has no step."""
        draft, value = lowerer.draft, lowerer.draft.build.value
        names = [lowerer.name(each) for each in (self.query, *self.rows, *(scale for _, scale in self.scales))]
        activations = [activation_of(each) for each in (self.activation, *(each for _, each in self.layers)) if each]
        if None in names or None in activations:
            return None
        query, *rest = [str(each) for each in names]
        rows, scales = rest[: len(self.rows)], rest[len(self.rows) :]
        length, hidden = self.history.shape[-2], self.product.inputs[1].shape[0]
        part = rows[0] if rows else draft.constant(draft.build.constant(torch.zeros(hidden)))
        for each in rows[1:]:
            part = lowerer.step(node, "add", [part, each])
        more: dict[str, Any] = {
            "history": draft.sequence(input_name(self.history), (length, self.history.shape[-1])),
            "history_part": draft.sequence(input_name(self.events), (length, hidden)),
            "values": draft.sequence(input_name(self.values), (length, self.values.shape[-1])),
            "product": draft.weight(value(self.product.inputs[1])),
            "layers": [_layer(draft, layer, activation) for layer, activation in self.layers],
            "softmax": self.softmax,
        }
        if self.activation is not None:
            more["activation"] = activation_of(self.activation)
        if self.mask is not None:
            more["mask"] = draft.sequence(input_name(self.mask[0]), (length, 1), inverted=self.mask[1])
        result = lowerer.step(node, "target_attention", [query, part], **more)
        for (op, _), scale in zip(self.scales, scales, strict=True):
            result = lowerer.step(node, op, [result, scale])
        return result


def _layer(draft: Draft, layer: Node, activation: Pointwise | None) -> dict[str, Any]:
    _, weight, *bias = layer.inputs
    fields: dict[str, Any] = {"weight": draft.weight(draft.build.value(weight))}
    if bias:
        fields["bias"] = draft.weight(draft.build.value(bias[0]))
    if activation is not None:
        fields["activation"] = activation_of(activation)
    return fields


def match_target_attention(node: Node, build: Builder) -> TargetAttention | None:
    """Return the target attention that a product is the end of; None where it is none."""
    weights, values = node.inputs
    if not _is_sequence(values) or math.prod(weights.shape) != values.shape[-2]:
        return None
    length = values.shape[-2]
    scales: list[tuple[str, Node]] = []
    mask: tuple[Node, bool] | None = None
    softmax, safe = False, False
    while True:
        weights = _bare(weights)
        scaled = _scaled(weights, build)
        masked = _masked(weights, length, -math.inf if softmax else 0.0, build)
        if scaled is not None and not softmax:
            scales.append(scaled[1:])
            weights = scaled[0]
        elif masked is not None and mask is None:
            weights, mask = masked[0], masked[1:]
        elif isinstance(weights.operation, Softmax) and not softmax and mask is None:
            softmax, weights = True, weights.inputs[0]
        elif _is_call(weights, "nan_to_num.default") and not softmax:
            safe, weights = True, weights.inputs[0]
        else:
            break
    if softmax and mask is not None and not safe:
        return None
    return _scored(weights, values, mask, softmax, scales[::-1])


def _scored(
    scores: Node, values: Node, mask: tuple[Node, bool] | None, softmax: bool, scales: list[tuple[str, Node]]
) -> TargetAttention | None:
    """Follow the layers down to the product of query and keys."""
    layers: list[tuple[Node, Pointwise | None]] = []
    activation: Pointwise | None = None
    node = scores
    while isinstance(node.operation, Linear) and not _is_meeting(node):
        layers.insert(0, (node, activation))
        node, activation = _bare(node.inputs[0]), None
        if isinstance(node.operation, Pointwise) and len(node.inputs) == 1:
            activation, node = node.operation, _bare(node.inputs[0])
    terms = _terms(node)
    products = [each for each in terms if isinstance(each.operation, Linear) and _is_meeting(each)]
    if len(products) != 1 or not layers or layers[-1][0].shape[-1] != 1:
        return None
    query, history = _meeting(products[0].inputs[0]) or (None, None)
    rest = [each for each in terms if each is not products[0]]
    events = [each for each in rest if _is_sequence(each) and each.shape[-2] == values.shape[-2]]
    rows = [each for each in rest if math.prod(each.shape) == each.shape[-1] and each not in events]
    alone = len(events) == 1 and len(products[0].inputs) == 2
    if query is None or history is None or len(rows) + len(events) != len(rest) or not alone:
        return None
    return TargetAttention(
        query, history, products[0], rows, events[0], layers, activation, mask, softmax, values, scales
    )


def _terms(node: Node) -> list[Node]:
    found = binary(node, "add.Tensor") if node.stage == "pair" else None
    return [node] if found is None else [*_terms(found[0]), *_terms(found[1])]


def _is_meeting(node: Node) -> bool:
    return _meeting(node.inputs[0]) is not None


def _meeting(node: Node) -> tuple[Node, Node] | None:
    """Return (query, keys) where a value is the product of a row and a sequence of the request."""
    pair = binary(node, "mul.Tensor")
    for query, keys in (pair, pair[::-1]) if pair else ():
        if _is_sequence(keys) and keys.shape[-2] > 1 and math.prod(query.shape) == keys.shape[-1]:
            return query, keys
    return None


def _is_sequence(node: Node) -> bool:
    return bool(input_name(node)) and len(node.shape) >= 2 and math.prod(node.shape[:-2]) == 1


def input_name(node: Node) -> str:
    """Return the name of a value that the request leaves, seen through reshapes; empty for any other."""
    node = _bare(node)
    return node.operation.name if isinstance(node.operation, Input) and node.stage == "request" else ""


def _bare(node: Node) -> Node:
    while isinstance(node.operation, Reshape):
        node = node.inputs[0]
    return node


def _is_call(node: Node, target: str) -> bool:
    return isinstance(node.operation, Pointwise) and node.operation.target == target


def _scaled(node: Node, build: Builder) -> tuple[Node, str, Node] | None:
    """Return (value, operator, number) where a value is scaled by a number that all candidates share."""
    for target, op in (("mul.Tensor", "mul"), ("div.Tensor", "div")):
        pair = binary(node, target)
        if pair and pair[1].shared and math.prod(pair[1].shape) == 1:
            return pair[0], op, pair[1]
        if _is_call(node, target) and isinstance(node.operation, Pointwise):
            first, *rest = node.operation.arguments
            if isinstance(first, Ref) and len(rest) == 1 and isinstance(rest[0], int | float):
                return node.inputs[0], op, build.scalar(float(rest[0]))
    return None


def _masked(node: Node, length: int, fill: float, build: Builder) -> tuple[Node, Node, bool] | None:
    """Return (scores, mask, whether it marks what is left out) where scores are masked by the request."""
    if _is_call(node, "where.self") and len(node.inputs) == 3:
        condition, first, second = node.inputs
        if not input_name(condition) or math.prod(condition.shape) != length:
            return None
        for filler, scores, inverted in ((first, second, True), (second, first, False)):
            if _is_number(filler, fill, build):
                return scores, condition, inverted
    pair = binary(node, "mul.Tensor") if fill == 0.0 else None
    for scores, mask in (pair, pair[::-1]) if pair else ():
        inner = mask.inputs[0] if isinstance(mask.operation, Cast) else mask
        if inner.dtype == "bool" and input_name(inner) and math.prod(inner.shape) == length:
            return scores, inner, False
    return None


def _is_number(node: Node, value: float, build: Builder) -> bool:
    return node.stage == "constant" and math.prod(node.shape) == 1 and float(build.value(node)) == value
