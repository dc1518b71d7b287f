"""Sums and the like: not over the rows."""

from __future__ import annotations

import math
from typing import Any

from bowerbird.compiler.capture import Call
from bowerbird.compiler.graph import Node
from bowerbird.compiler.lifting.layout import apart
from bowerbird.compiler.lifting.lifter import Lifted, Lifter, rule
from bowerbird.compiler.operations import Pointwise, Reduce, Ref
from bowerbird.compiler.size import Rows, row_shape

_REDUCTIONS = {
    "sum.dim_IntList": False, "mean.dim": False, "amax.default": False, "amin.default": False, "any.dims": False,
    "any.dim": True, "all.dim": True, "all.dims": False, "prod.dim_int": True, "argmax.default": True,
    "argmin.default": True, "logsumexp.default": False,
}  # fmt: skip
"""Operators (x, dims, keepdim): whether they take one dimension."""


@rule(*_REDUCTIONS)
def reduce(lifter: Lifter, call: Call) -> Lifted:
    """Sums and the like over dimensions that are not the rows'."""
    given, dims, keep, *_ = (lifter.get(call.arguments[0]), *call.arguments[1:], None, None)
    return _reduced(lifter, call, given, dims, bool(keep), (), _REDUCTIONS[call.target])


@rule("linalg_vector_norm.default")
def vector_norm(lifter: Lifter, call: Call) -> Lifted:
    """The length of a vector."""
    given, order, dims, keep, *_ = (lifter.get(call.arguments[0]), *call.arguments[1:], None, None, None)
    return _reduced(lifter, call, given, dims, bool(keep), (2 if order is None else order,), False)


@rule("var.correction")
def variance(lifter: Lifter, call: Call) -> Lifted:
    """The mean of squares around the mean, over dimensions that are not the rows'."""
    given, dims, correction, keep, *_ = (lifter.get(call.arguments[0]), *call.arguments[1:], None, None, None)
    every = range(given.rank) if dims is None else dims
    chosen = sorted({int(each) % given.rank for each in every})
    places = tuple(apart(given, each, "it reduces over rows") for each in chosen)
    count = math.prod(given.shape[each].plus for each in chosen)
    build, two = lifter.builder, (Ref(0), Ref(1))
    mean = build.add(Reduce("mean.dim", places), [given.node], call.where)
    wide = lifter.reshape(mean, tuple(1 if d - len(given.node.shape) in places else size
                                      for d, size in enumerate(given.node.shape)))  # fmt: skip
    centred = build.add(Pointwise("sub.Tensor", two), [given.node, wide], call.where)
    squares = build.add(Pointwise("mul.Tensor", two), [centred, centred], call.where)
    total = build.add(Reduce("sum.dim_IntList", places), [squares], call.where)
    factor = build.scalar(1.0 / (count - (1.0 if correction is None else float(correction))))
    scaled = build.add(Pointwise("mul.Tensor", two), [total, factor], call.where)
    return _with_kept(lifter, call, given, scaled, chosen, bool(keep))


def _reduced(
    lifter: Lifter, call: Call, given: Lifted, dims: Any, keep: bool, more: tuple[Any, ...], single: bool
) -> Lifted:
    every = range(given.rank) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    chosen = sorted({int(each) % given.rank for each in every})
    places = tuple(apart(given, each, "it reduces over rows") for each in chosen)
    reduced = lifter.builder.add(Reduce(call.target, places, more, single), [given.node], call.where)
    return _with_kept(lifter, call, given, reduced, chosen, keep)


def _with_kept(lifter: Lifter, call: Call, given: Lifted, reduced: Node, chosen: list[int], keep: bool) -> Lifted:
    """Return a reduction's result, its dimensions gone or kept with one element."""
    rows = given.rows
    if rows is not None and not keep:
        rows = Rows(rows.dim - sum(each < rows.dim for each in chosen), rows.outer, rows.inner)
    return lifter.finish(call, lifter.reshape(reduced, row_shape(call.shape, rows)), rows)
