"""Lowering what fields of a candidate do with each other: values in another order, products, attention among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bowerbird.compiler.graph import Node
from bowerbird.compiler.operations import Choose, Concat, Expand, Permute, Pointwise, Product, Reshape, Slice, Softmax
from bowerbird.compiler.rewrite import binary


class Lowerer(Protocol):
    """What lowers nodes to names; see ``lower.py``."""

    def name(self, node: Node) -> str | None:
        """Return the name of a node's rows."""
        ...

    def step(self, node: Node, op: str, inputs: list[str], **more: Any) -> str:
        """Add a step."""
        ...


@dataclass(frozen=True)
class Elements:
    """Where a value's elements are: their places, in the value's shape, among the ``width`` columns of a name."""

    name: str
    width: int
    places: Tensor


def elements(lowerer: Lowerer, node: Node) -> Elements | None:
    """Return where a node's elements are, seen through what only moves them; None where they have no name."""
    if isinstance(node.operation, Choose | Expand | Permute | Reshape | Slice) and node.dtype == "float32":
        given = elements(lowerer, node.inputs[0])
        if given is None:
            return None
        return Elements(given.name, given.width, node.operation.run([given.places.unsqueeze(0)], 1)[0])
    name, width = lowerer.name(node), math.prod(node.shape)
    return None if name is None else Elements(name, width, torch.arange(width).reshape(node.shape))


def moved(lowerer: Lowerer, node: Node) -> str | None:
    """Return the name of a value whose elements are another's in some order."""
    given = elements(lowerer, node)
    return None if given is None else _taken(lowerer, node, [given], given.places)


def joined(lowerer: Lowerer, node: Node, operation: Concat) -> str | None:
    """Return the name of values end to end along any dimension."""
    parts = _all([elements(lowerer, each) for each in node.inputs])
    return None if parts is None else _taken(lowerer, node, parts, torch.cat(_side_by_side(parts), operation.dim))


def repeated(lowerer: Lowerer, node: Node, like: Node) -> str | None:
    """Return the name of a value that is broadcast to the shape of another."""
    given = elements(lowerer, node)
    return None if given is None else _taken(lowerer, like, [given], given.places.expand(like.shape))


def product(lowerer: Lowerer, node: Node) -> str | None:
    """Return the name of matrix products of two values of a candidate."""
    first, second = (elements(lowerer, each) for each in node.inputs)
    if first is None or second is None:
        return None
    rows, columns = node.shape[-2:]
    batch, inner = math.prod(node.shape[:-2]), node.inputs[0].shape[-1]
    left, left_strides = _matrices(lowerer, node, first, (batch, rows, inner))
    right, right_strides = _matrices(lowerer, node, second, (batch, inner, columns))
    sizes = [batch, rows, inner, columns]
    return lowerer.step(node, "product", [left, right], sizes=sizes, left=left_strides, right=right_strides)


def field_attention(lowerer: Lowerer, node: Node) -> str | None:
    """Return the name of a softmax's weights times values, where the scores are products with keys.

    Keys, and values with them, may have been taken apart: then scores are concatenated, and sums of products added.
    """
    pieces = [_piece(each) for each in _summands(node)]
    found = sorted((each for each in pieces if each is not None), key=lambda each: each.start)
    if len(found) < len(pieces) or any(each.softmax is not found[0].softmax for each in found):
        return None
    scores = _scores(found[0].softmax)
    stops = [each.stop for each in found]
    if scores is None or [each.start for each in found] != [0, *stops[:-1]] or stops[-1] != found[0].softmax.shape[-1]:
        return None
    batch, width = node.shape[:-2], scores.query.shape[-1]
    query = elements(lowerer, scores.query)
    keys = _all([elements(lowerer, each) for each in scores.keys])
    values = _all([elements(lowerer, each.values) for each in found])
    if query is None or keys is None or values is None:
        return None
    names = [
        _taken(lowerer, node, [query], query.places.expand(*batch, *scores.query.shape[-2:])),
        _taken(lowerer, node, keys, _stacked([each.mT for each in _side_by_side(keys)], batch)),
        _taken(lowerer, node, values, _stacked(_side_by_side(values), batch)),
    ]
    return lowerer.step(node, "field_attention", names, heads=math.prod(batch), width=width, scale=scores.scale)


@dataclass(frozen=True)
class _Piece:
    """Columns ``start`` to ``stop`` of a softmax times values."""

    softmax: Node
    start: int
    stop: int
    values: Node


@dataclass(frozen=True)
class _Scores:
    query: Node
    keys: list[Node]
    scale: float


def _summands(node: Node) -> list[Node]:
    pair = binary(node, "add.Tensor")
    return [node] if pair is None else [*_summands(pair[0]), *_summands(pair[1])]


def _piece(node: Node) -> _Piece | None:
    if not isinstance(node.operation, Product):
        return None
    weights, values = node.inputs
    start, stop = 0, weights.shape[-1]
    match weights.operation:
        case Slice(-1, start, stop, 1):
            weights = weights.inputs[0]
    return _Piece(weights, start, stop, values) if weights.operation == Softmax(-1) else None


def _scores(softmax: Node) -> _Scores | None:
    """Return the query, the keys and the scale of a softmax's scores; None where they are no products of one query."""
    node, scale = softmax.inputs[0], 1.0
    match node.operation:
        case Pointwise("mul.Tensor", (_, int() | float() as factor)):
            node, scale = node.inputs[0], float(factor)
        case Pointwise("div.Tensor", (_, int() | float() as divisor)):
            node, scale = node.inputs[0], 1.0 / divisor
    products = list(node.inputs) if node.operation == Concat(-1) else [node]
    if not all(isinstance(each.operation, Product) for each in products):
        return None
    query = products[0].inputs[0]
    if any(each.inputs[0] is not query for each in products):
        return None
    return _Scores(query, [each.inputs[1] for each in products], scale)


def _stacked(matrices: Sequence[Tensor], batch: tuple[int, ...]) -> Tensor:
    """Return matrices one below the other."""
    return torch.cat([each.expand(*batch, *each.shape[-2:]) for each in matrices], -2)


def _matrices(
    lowerer: Lowerer, node: Node, given: Elements, shape: tuple[int, int, int]
) -> tuple[str, list[int]]:
    """Return a name and the strides of its matrices [batch, rows, columns]; elements move where there are none."""
    places = given.places.expand(*node.shape[:-2], *shape[1:]).reshape(shape)
    first = int(places[0, 0, 0])
    strides = [int(places.select(dim, 1).flatten()[0]) - first if shape[dim] > 1 else 0 for dim in range(3)]
    steps = [stride * torch.arange(size) for stride, size in zip(strides, shape, strict=True)]
    regular = first + steps[0][:, None, None] + steps[1][:, None] + steps[2]
    if min(strides) < 0 or not torch.equal(places, regular):
        return _taken(lowerer, node, [given], places), [shape[1] * shape[2], shape[2], 1]
    if first == 0:
        return given.name, strides
    last = int(places.max())
    return lowerer.step(node, "slice", [given.name], start=first, stop=last + 1), strides


def _taken(lowerer: Lowerer, node: Node, parts: Sequence[Elements], places: Tensor) -> str:
    """Return the name of elements at ``places`` of the names of parts, side by side."""
    widths = _widths(parts)
    flat = places.flatten().tolist()
    if len(widths) == 1 and flat == list(range(flat[0], flat[0] + len(flat))):
        name, width = next(iter(widths.items()))
        if len(flat) == width:
            return name
        return lowerer.step(node, "slice", [name], start=flat[0], stop=flat[0] + len(flat))
    return lowerer.step(node, "take", list(widths), places=flat)


def _side_by_side(parts: Sequence[Elements]) -> list[Tensor]:
    """Return the places of parts among the columns of all their names."""
    starts, total = {}, 0
    for name, width in _widths(parts).items():
        starts[name], total = total, total + width
    return [each.places + starts[each.name] for each in parts]


def _widths(parts: Sequence[Elements]) -> dict[str, int]:
    return {each.name: each.width for each in parts}


def _all(parts: Sequence[Elements | None]) -> list[Elements] | None:
    known = [each for each in parts if each is not None]
    return known if len(known) == len(parts) else None
