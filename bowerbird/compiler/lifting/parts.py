"""Operators that put parts together or take them: not of the rows."""

from __future__ import annotations

from typing import Any

import torch

from bowerbird.compiler.capture import Call
from bowerbird.compiler.graph import Node
from bowerbird.compiler.lifting.layout import apart, meeting, plain_size, row_dim, with_defaults
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Concat, Expand, Slice
from bowerbird.compiler.size import Rows, row_shape


@rule("cat.default")
def concat(lifter: Lifter, call: Call) -> Lifted:
    """Values stand end to end; along the rows' dimension all rows of one before those of the next."""
    parts = [lifter.get(each) for each in call.arguments[0]]
    dim = (call.arguments[1] if len(call.arguments) > 1 else 0) % len(call.shape)
    places = {(each.rows.dim, each.rows.inner) if each.rows else None for each in parts}
    if len(places) > 1:
        raise Coupled("the rows of its parts stand in different dimensions")
    folds = [each.rows for each in parts if each.rows is not None]
    if folds and folds[0].dim == dim:
        behind = Rows(dim, sum(each.outer for each in folds), folds[0].inner)
        return lifter.make(call, Concat(dim - len(call.shape)), [lifter.keep(each) for each in parts], behind)
    if len({each.rows for each in parts}) > 1:
        raise Coupled("the rows of its parts stand in different dimensions")
    rows = parts[0].rows
    return lifter.make(call, Concat(row_dim(dim, len(call.shape), rows)), [each.node for each in parts], rows)


@rule("slice.Tensor")
def slice_(lifter: Lifter, call: Call) -> Lifted:
    """A part along a dimension; along the rows' only the whole of it."""
    given = lifter.get(call.arguments[0])
    dim, start, stop, step = with_defaults(call.arguments[1:], (0, None, None, 1))
    dim %= given.rank
    if given.rows is not None and dim == given.rows.dim:
        if call.shape == given.shape and step in (1, None):
            return given
        raise Coupled("it takes a part of the rows")
    length = given.shape[dim].plus
    first, last, _ = slice(plain_size(start), plain_size(stop)).indices(length)
    place = row_dim(dim, given.rank, given.rows)
    return lifter.make(call, Slice(place, first, max(last, first), step or 1), [given.node], given.rows)


@rule("select.int")
def select(lifter: Lifter, call: Call) -> Lifted:
    """One element along a dimension that is not the rows'."""
    given = lifter.get(call.arguments[0])
    dim, index = call.arguments[1] % given.rank, plain_size(call.arguments[2])
    assert index is not None
    place = apart(given, dim, "it picks one row")
    index %= given.shape[dim].plus
    part = lifter.builder.add(Slice(place, index, index + 1), [given.node], call.where)
    rows = given.rows
    if rows is not None and dim < rows.dim:
        rows = Rows(rows.dim - 1, rows.outer, rows.inner)
    return lifter.finish(call, lifter.reshape(part, row_shape(call.shape, rows)), rows)


@rule("split_with_sizes.default", "split.Tensor", "chunk.default")
def split(lifter: Lifter, call: Call) -> Lifted:
    """Parts along a dimension that is not the rows'; each result is one of them."""
    given = lifter.get(call.arguments[0])
    assert call.output is not None
    dim = call.arguments[-1] if len(call.arguments) > 2 else 0
    place = apart(given, dim, "it takes a part of the rows")
    if call.target == "split_with_sizes.default":
        sizes = [plain_size(each) or 0 for each in call.arguments[1]]
        start = sum(sizes[: call.output])
    else:
        start = call.output * int(call.arguments[1])
    part = Slice(place, start, start + call.shape[dim].plus)
    return lifter.make(call, part, [given.node], given.rows)


@rule("constant_pad_nd.default")
def pad(lifter: Lifter, call: Call) -> Lifted:
    """A constant put before and behind along dimensions that are not the rows'."""
    given = lifter.get(call.arguments[0])
    pads = [plain_size(each) or 0 for each in call.arguments[1]]
    value = call.arguments[2] if len(call.arguments) > 2 else 0.0
    node = given.node
    for step in range(len(pads) // 2):
        before, behind = pads[2 * step], pads[2 * step + 1]
        if not before and not behind:
            continue
        dim = apart(given, given.rank - 1 - step, "it pads rows")
        parts = [_padding(lifter, node, dim, count, value) for count in (before, behind)]
        chosen = [part for part in (parts[0], node, parts[1]) if part is not None]
        node = lifter.builder.add(Concat(dim), chosen, call.where)
    return lifter.finish(call, node, given.rows)


def _padding(lifter: Lifter, node: Node, dim: int, count: int, value: Any) -> Node | None:
    if not count:
        return None
    shape = list(node.shape)
    shape[dim] = count
    one = lifter.builder.constant(torch.tensor(value, dtype=getattr(torch, node.dtype)))
    return lifter.builder.add(Expand(tuple(shape)), [one])


@rule("copy.default")
def copy(lifter: Lifter, call: Call) -> Lifted:
    """A value written over another one, repeated to its shape."""
    target, source = (lifter.get(each) for each in call.arguments[:2])
    zeros = lifter.builder.constant(torch.zeros((), dtype=getattr(torch, target.node.dtype)))
    nothing = lifter.builder.add(Expand(target.node.shape), [zeros])
    nodes, rows = meeting(lifter, [Lifted(nothing, target.rows, target.shape), source])
    return lifter.make(call, Expand(row_shape(call.shape, rows)), [nodes[1]], rows)


@rule("slice_scatter.default", "select_scatter.default")
def scatter(lifter: Lifter, call: Call) -> Lifted:
    """A part along a dimension replaced: what stands before it, the new part, what stands behind it."""
    given, part = (lifter.get(each) for each in call.arguments[:2])
    dim = call.arguments[2] % given.rank if len(call.arguments) > 2 else 0
    start, stop, step = with_defaults(call.arguments[3:], (None, None, 1))
    if given.rows is not None and dim == given.rows.dim and part.shape == given.shape and part.rows == given.rows:
        return part
    place = apart(given, dim, "it replaces a part of the rows")
    length = given.shape[dim].plus
    node = part.node
    if call.target == "select_scatter.default":
        first = (plain_size(start) or 0) % length
        last, step = first + 1, 1
        shape = list(given.node.shape)
        shape[place] = 1
        node = lifter.reshape(node, tuple(shape))
    else:
        first, last, _ = slice(plain_size(start), plain_size(stop)).indices(length)
    if step not in (1, None) or node.shape != _with_length(given.node.shape, place, last - first):
        raise Coupled("the compiler has no rule for it")
    parts = [
        lifter.builder.add(Slice(place, *bounds), [given.node], call.where)
        for bounds in ((0, first), (last, length)) if bounds[0] < bounds[1]
    ]  # fmt: skip
    parts.insert(int(first > 0), node)
    return lifter.make(call, Concat(place), parts, given.rows)


def _with_length(shape: tuple[int, ...], dim: int, length: int) -> tuple[int, ...]:
    changed = list(shape)
    changed[dim] = length
    return tuple(changed)
