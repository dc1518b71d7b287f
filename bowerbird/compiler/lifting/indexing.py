"""Operators that choose by an index: not among the rows."""

from __future__ import annotations

import math

import torch

from bowerbird.compiler.capture import Call
from bowerbird.compiler.lifting.layout import apart
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Choose, TakeRows
from bowerbird.compiler.size import Rows


@rule("embedding.default")
def embedding(lifter: Lifter, call: Call) -> Lifted:
    """Rows of a constant table, each by its own index."""
    table, index = (lifter.get(each) for each in call.arguments[:2])
    if table.node.stage != "constant" or table.rows is not None:
        raise Coupled("its table is not constant")
    if index.rows is not None and index.rows.fold > 1:
        raise Coupled("the compiler has no rule for it")
    return lifter.make(call, TakeRows(), [table.node, index.node], index.rows)


@rule("index_select.default")
def index_select(lifter: Lifter, call: Call) -> Lifted:
    """Places of a dimension that is not the rows', by a constant index."""
    given, index = lifter.get(call.arguments[0]), lifter.get(call.arguments[2])
    dim = apart(given, call.arguments[1], "it picks rows")
    return _chosen(lifter, call, given, index, dim)


@rule("index.Tensor")
def index(lifter: Lifter, call: Call) -> Lifted:
    """Places of neighbouring dimensions that are not the rows', by constant vectors: one for each dimension.

    x[:, i, j] are the places i · n + j of the two dimensions as one, with n the length of the second.
    """
    given, indices = lifter.get(call.arguments[0]), call.arguments[1]
    used = [place for place, each in enumerate(indices) if each is not None]
    vectors = [lifter.get(indices[place]) for place in used]
    if used != list(range(used[0], used[0] + len(used))) or any(each.rank != 1 for each in vectors):
        raise Coupled("the compiler has no rule for it")
    dims = [apart(given, place, "it picks rows") for place in used]
    if any(each.node.stage != "constant" or each.node.dtype == "bool" for each in vectors):
        raise Coupled("its index is not constant")
    places = torch.zeros(1, dtype=torch.int64)
    for dim, vector in zip(dims, vectors, strict=True):
        length = given.node.shape[dim]
        places = places * length + lifter.builder.value(vector.node) % length
    shape = given.node.shape
    first, last = dims[0] + len(shape), dims[-1] + len(shape)
    merged = math.prod(shape[first : last + 1])
    flat = lifter.reshape(given.node, (*shape[:first], merged, *shape[last + 1 :]))
    rows = given.rows
    if rows is not None and rows.dim > used[0]:
        rows = Rows(rows.dim - len(used) + 1, rows.outer, rows.inner)
    return lifter.make(call, Choose(dims[-1], tuple(places.tolist())), [flat], rows)


def _chosen(lifter: Lifter, call: Call, given: Lifted, index: Lifted, dim: int) -> Lifted:
    if index.node.stage != "constant" or index.node.dtype == "bool":
        raise Coupled("its index is not constant")
    places = tuple(int(each) for each in lifter.builder.value(index.node).reshape(-1))
    return lifter.make(call, Choose(dim, places), [given.node], given.rows)
