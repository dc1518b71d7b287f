"""Finding how positions are scored: by layers over a candidate's query and the request's keys, or by their product."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Concat, Dice, Expand, Linear, Permute, Pointwise, Prelu, Product, Reduce, Ref
from bowerbird.compiler.pair.pooling import bare, of_request, unrepeated
from bowerbird.compiler.rewrite import binary, operands, plus, reshaped, times


@dataclass(frozen=True)
class Layer:
    """A linear layer and the activation behind it, if there is one; ``bias`` [out] or None."""

    weight: Tensor
    bias: Tensor | None
    activation: Node | None


@dataclass(frozen=True)
class LayerScores:
    """layers(activation(P (q · k_l) + a + b_l)): the query q, a row a of the candidate, and b [length, hidden]."""

    query: Node
    keys: Node
    product: Tensor
    row: Node
    events: Node
    activation: Node | None
    layers: list[Layer]


@dataclass(frozen=True)
class ProductScores:
    """scale · (q · k_l) for each head; keys [length, heads · width], query [heads · width]."""

    query: Node
    keys: Node
    scale: float


def match_scores(node: Node, length: int, heads: int, build: Builder) -> LayerScores | ProductScores | None:
    """Return how a candidate's scores, one per position, are made; None where it is not known."""
    found = _products(node, length, heads, build)
    if found is None and heads == 1:
        return _layers(node, length, build)
    return found


def _products(node: Node, length: int, heads: int, build: Builder) -> ProductScores | None:
    scale = 1.0
    while True:
        node = bare(node)
        pair = operands(node, "mul.Tensor", "div.Tensor")
        if pair is None or not isinstance(pair[0], Node):
            break
        number = pair[1]
        if isinstance(number, Node) and number.stage == "constant" and math.prod(number.shape) == 1:
            number = float(build.value(number))
        if not isinstance(number, int | float):
            break
        scale = scale * number if target_of(node) == "mul.Tensor" else scale / number
        node = pair[0]
    found = _query_and_keys(node, length, heads, build)
    return None if found is None else ProductScores(*found, scale)


def target_of(node: Node) -> str:
    """Return the operator of a pointwise node; empty for any other."""
    return node.operation.target if isinstance(node.operation, Pointwise) else ""


def _query_and_keys(node: Node, length: int, heads: int, build: Builder) -> tuple[Node, Node] | None:
    """Return the query [heads · width] and the keys [length, heads · width] of products."""
    if isinstance(node.operation, Product):
        first, second = node.inputs
        swapped = of_request(first)
        query, keys = (second, first) if swapped else (first, second)
        if of_request(query) or not of_request(keys) or len(keys.shape) < 2:
            return None
        width = keys.shape[-1] if swapped else keys.shape[-2]
        if query.shape[-1 if swapped else -2 :][:1] != (1,):
            return None
        if math.prod(keys.shape) != heads * width * length or math.prod(query.shape) != heads * width:
            return None
        if keys.shape[-2 if swapped else -1] != length or math.prod(keys.shape[:-2]) != heads:
            return None
        folded = reshaped(build, keys, (heads, *keys.shape[-2:]))
        order = (-2, -3, -1) if swapped else (-1, -3, -2)
        turned = build.add(Permute(order), [folded])
        return reshaped(build, query, (heads * width,)), reshaped(build, turned, (length, heads * width))
    if isinstance(node.operation, Reduce) and node.operation.target == "sum.dim_IntList" and heads == 1:
        given = node.inputs[0]
        met = _meeting(given, length)
        if met is not None and [dim for dim in node.operation.dims if given.shape[dim] > 1] == [-1]:
            return met
    return None


def _meeting(node: Node, length: int) -> tuple[Node, Node] | None:
    """Return (query [width], keys [length, width]) where a value is their product at each position."""
    pair = binary(node, "mul.Tensor")
    for query, keys in (pair, pair[::-1]) if pair else ():
        row = unrepeated(query)
        width = node.shape[-1] if node.shape else 0
        is_keys = of_request(keys) and math.prod(keys.shape) == length * width and keys.shape[-1] == width
        if is_keys and not of_request(row) and math.prod(row.shape) == width:
            return row, keys
    return None


def _layers(scores: Node, length: int, build: Builder) -> LayerScores | None:
    layers: list[Layer] = []
    node, activation = _activation(scores)
    while _is_layer(node):
        weight, *bias = (build.value(each) for each in node.inputs[1:])
        layers.insert(0, Layer(weight, bias[0] if bias else None, activation))
        node, activation = _activation(node.inputs[0])
    width = node.shape[-1] if math.prod(node.shape) != length else 1
    if not layers:
        layers, activation = [Layer(torch.ones(1, 1), None, activation)], None
    terms = _Terms(length, build)
    if layers[-1].weight.shape[0] != 1 or not terms.take(node, width, 1.0, None):
        return None
    return LayerScores(*terms.met(width), terms.row(width), terms.sequence(width), activation, layers)


def _activation(node: Node) -> tuple[Node, Node | None]:
    """Return what an activation is of, and it."""
    node = bare(node)
    of_one = isinstance(node.operation, Pointwise) and sum(isinstance(e, Ref) for e in node.operation.arguments) == 1
    if of_one or isinstance(node.operation, Prelu | Dice):
        return bare(node.inputs[0]), node
    return node, None


def _is_layer(node: Node) -> bool:
    """Return whether a node is a linear layer over another layer or an activation, and not over what meets first."""
    if not isinstance(node.operation, Linear):
        return False
    given, activation = _activation(node.inputs[0])
    return activation is not None or isinstance(given.operation, Linear)


@dataclass
class _Terms:
    """What the first layer adds: products with keys, rows of the candidate and sequences of the request."""

    length: int
    build: Builder
    queries: list[Node] = field(default_factory=list)
    keys: list[Node] = field(default_factory=list)
    products: list[Tensor] = field(default_factory=list)
    rows: list[Node] = field(default_factory=list)
    events: list[Node] = field(default_factory=list)

    def take(self, node: Node, width: int, sign: float, weight: Tensor | None) -> bool:
        """Take sign · weight · node, a node of ``width`` at each position; False where it cannot be taken apart."""
        build = self.build
        row = unrepeated(node)
        if of_request(row) and math.prod(row.shape) in (width, self.length * width):
            shape = (self.length if math.prod(row.shape) > width else 1, width)
            self.events.append(self._mapped(reshaped(build, row, shape), sign, weight))
            return True
        if math.prod(row.shape) == width and self.length > 1:
            self.rows.append(self._mapped(reshaped(build, row, (width,)), sign, weight))
            return True
        node = bare(node)
        met = _meeting(node, self.length)
        if met is not None:
            self.queries.append(reshaped(build, met[0], (width,)))
            self.keys.append(reshaped(build, met[1], (self.length, width)))
            self.products.append(sign * (torch.eye(width) if weight is None else weight))
            return True
        pair = binary(node, "add.Tensor", "sub.Tensor")
        if pair is not None:
            second = sign if target_of(node) == "add.Tensor" else -sign
            return self.take(pair[0], width, sign, weight) and self.take(pair[1], width, second, weight)
        if isinstance(node.operation, Linear) and node.inputs[1].shape[0] == width:
            return self._linear(node, sign, weight)
        if node.operation == Concat(-1) and weight is not None:
            sizes = [each.shape[-1] for each in node.inputs]
            parts = zip(node.inputs, sizes, torch.split(weight, sizes, dim=1), strict=True)
            return all(self.take(part, size, sign, columns) for part, size, columns in parts)
        return False

    def _linear(self, node: Node, sign: float, weight: Tensor | None) -> bool:
        given, own, *bias = node.inputs
        matrix = self.build.value(own)
        if bias:
            self.events.append(self._mapped(reshaped(self.build, bias[0], (1, len(matrix))), sign, weight))
        return self.take(given, matrix.shape[1], sign, matrix if weight is None else weight @ matrix)

    def _mapped(self, node: Node, sign: float, weight: Tensor | None) -> Node:
        if weight is not None:
            return self.build.add(Linear(), [node, self.build.constant(sign * weight)])
        return node if sign > 0 else times(self.build, node, self.build.scalar(sign))

    def met(self, width: int) -> tuple[Node, Node, Tensor]:
        """Return query, keys and the products' weights, those of several products side by side."""
        build = self.build
        if not self.queries:
            zeros = build.constant(torch.zeros(1)), build.constant(torch.zeros(self.length, 1))
            return *zeros, torch.zeros(width, 1)
        if len(self.queries) == 1:
            return self.queries[0], self.keys[0], self.products[0]
        joined = build.add(Concat(-1), self.queries), build.add(Concat(-1), self.keys)
        return *joined, torch.cat(self.products, dim=1)

    def row(self, width: int) -> Node:
        """Return the sum of the candidate's rows, [width]."""
        return self._sum([reshaped(self.build, each, (width,)) for each in self.rows], (width,))

    def sequence(self, width: int) -> Node:
        """Return the sum of the request's sequences, [length, width]."""
        total = self._sum(self.events, (self.length, width))
        return total if total.shape[0] == self.length else self.build.add(Expand((self.length, width)), [total])

    def _sum(self, terms: list[Node], shape: tuple[int, ...]) -> Node:
        if not terms:
            return self.build.constant(torch.zeros(shape))
        total = terms[0]
        for each in terms[1:]:
            total = plus(self.build, total, each)
        return total

