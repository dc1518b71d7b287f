"""Laws that carry linear layers to the stages of what they read."""

from __future__ import annotations

import math

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Concat, Expand, Linear, Permute, Product, Reshape, Slice
from bowerbird.compiler.rewrite import binary, by_stage, minus, plus, repeated, reshaped
from bowerbird.compiler.stage import STAGES, Stage

_SUMS = ("add.Tensor", "sub.Tensor")


class LinearOfConcat:
    """W [u; i; p] + b = W_u u + W_i i + W_p p + b, with W's columns cut as the parts are.

    Parts of one stage stay together. A part that is a sum of earlier values stands alone, so that ``LinearOfSum`` can
    go on with it. This is the first layer of an MLP, of experts and gates (MMoE, PLE), of a cross network (DCN-V2) and,
    with the parts q, k, q - k and q · k, of target attention.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the sum over stages, where the parts have several."""
        given = node.inputs[0] if isinstance(node.operation, Linear) else None
        if given is None or given.stage != "pair" or given.operation != Concat(-1):
            return None
        _, weight, *bias = node.inputs
        groups: dict[tuple[Stage, int], list[tuple[Node, Node]]] = {}
        start = 0
        for number, part in enumerate(given.inputs):
            columns = build.add(Slice(-1, start, start + part.shape[-1]), [weight])
            alone = number + 1 if part.stage == "pair" and _earlier_terms(part) else 0
            groups.setdefault((part.stage, alone), []).append((part, columns))
            start += part.shape[-1]
        if len(groups) < 2:
            return None
        total = None
        for key in sorted(groups, key=lambda key: (STAGES.index(key[0]), key[1])):
            parts, cut = zip(*groups[key], strict=True)
            term = build.add(Linear(), [_joined(build, parts), _joined(build, cut), *(bias if total is None else ())])
            total = term if total is None else plus(build, total, term)
        assert total is not None
        return total


class LinearOfStack:
    """W [a; b] + c = [W a + c; W b + c], where a and b are stacked along another dimension than the one W sums over.

    Fields, or events before a candidate: what is the request's or the item's own is mapped at its own stage.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the stack of mapped parts, where one of them is earlier than the whole."""
        given = node.inputs[0] if isinstance(node.operation, Linear) else None
        if given is None or given.stage != "pair" or not isinstance(given.operation, Concat):
            return None
        if given.operation.dim == -1 or all(part.stage == "pair" for part in given.inputs):
            return None
        parts = [build.add(Linear(), [part, *node.inputs[1:]]) for part in by_stage(build, given, adjacent=True)]
        return build.add(given.operation, parts)


class ProductOfConcat:
    """x [A, B] = [x A, x B] and x [A; B] = x_a A + x_b B, with x's columns cut as the rows are.

    A history before a candidate is then used where it stands, and not copied for every candidate.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the products with the parts, where one of them is earlier than the whole."""
        if not isinstance(node.operation, Product):
            return None
        given, joined = node.inputs
        if joined.stage != "pair" or not isinstance(joined.operation, Concat) or joined.operation.dim < -2:
            return None
        parts = by_stage(build, joined, adjacent=True)
        if all(part.stage == "pair" for part in parts) or len(parts) < 2:
            return None
        if joined.operation.dim == -1:
            return build.add(Concat(-1), [build.add(Product(), [given, part]) for part in parts])
        total, start = None, 0
        for part in parts:
            columns = build.add(Slice(-1, start, start + part.shape[-2]), [given])
            start += part.shape[-2]
            term = build.add(Product(), [columns, part])
            total = term if total is None else plus(build, total, term)
        return total


class LinearOfSum:
    """W (a ± b) + c = (W a + c) ± W b, where a and b are there before the candidates meet the request."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the sum of linear layers."""
        if not isinstance(node.operation, Linear):
            return None
        given, weight, *bias = node.inputs
        terms = _earlier_terms(given) if given.stage == "pair" else None
        if terms is None:
            return None
        first = build.add(Linear(), [_widened(build, terms[0], given), weight, *bias])
        second = build.add(Linear(), [_widened(build, terms[1], given), weight])
        combine = plus if binary(given, "add.Tensor") else minus
        return combine(build, first, second)


class LinearOfExpand:
    """W expand(x) + b = expand(W x + b), where the last dimension is not the one that is repeated."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the repeated result."""
        given = node.inputs[0] if isinstance(node.operation, Linear) else None
        if given is None or not isinstance(given.operation, Expand) or not given.inputs[0].shape:
            return None
        inner = given.inputs[0]
        if inner.shape[-1] != given.shape[-1] or inner.stage == "constant":
            return None
        return build.add(Expand(node.shape), [build.add(Linear(), [inner, *node.inputs[1:]])])


class LinearOfReshape:
    """W reshape(x) + b = reshape(W x + b), where the last dimension stays as it is."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the reshaped result."""
        given = node.inputs[0] if isinstance(node.operation, Linear) else None
        if given is None or not isinstance(given.operation, Reshape):
            return None
        inner = given.inputs[0]
        if inner.shape[-1:] != given.shape[-1:]:
            return None
        return reshaped(build, build.add(Linear(), [inner, *node.inputs[1:]]), node.shape)


class LinearOfProduct:
    """W (A v) + b = A (W v) + b, where A is of the pair, v of the request or the item, and the right side is less.

    A weighs values that were there before: attention's output map moves into them.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the product with mapped values, where a candidate has less to compute."""
        given = node.inputs[0] if isinstance(node.operation, Linear) else None
        if given is None or not isinstance(given.operation, Product):
            return None
        weights, values = given.inputs
        if weights.stage != "pair" or values.stage in ("pair", "constant"):
            return None
        _, weight, *bias = node.inputs
        mapped = build.add(Linear(), [values, weight])
        result = build.add(Product(), [weights, mapped])
        if result.flops >= given.flops + node.flops:
            return None
        return plus(build, result, bias[0]) if bias else result


class ProductByConstant:
    """x Wᵀ with W constant is a linear layer."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the linear layer."""
        if not isinstance(node.operation, Product):
            return None
        given, weight = node.inputs
        matrix = weight.shape[-2:]
        if weight.stage != "constant" or math.prod(weight.shape) != math.prod(matrix) or given.stage == "constant":
            return None
        if len(given.shape) < 2 or len(weight.shape) > len(given.shape):
            return None
        turned = build.add(Permute((-1, -2)), [reshaped(build, weight, matrix)])
        return build.add(Linear(), [given, turned])


def _earlier_terms(node: Node) -> tuple[Node, Node] | None:
    """Return the terms of a sum or difference of values that are there before the pair."""
    terms = binary(node, *_SUMS)
    if terms is None or any(each.stage == "pair" for each in terms):
        return None
    return terms if all(each.dtype == node.dtype for each in terms) else None


def _widened(build: Builder, term: Node, total: Node) -> Node:
    """Return a term with the last dimension of its sum."""
    return repeated(build, term, (*term.shape[:-1], total.shape[-1]))


def _joined(build: Builder, parts: tuple[Node, ...]) -> Node:
    return parts[0] if len(parts) == 1 else build.add(Concat(-1), parts)
