"""Operators along a dimension, sorts and running sums among them: not along the rows."""

from __future__ import annotations

from typing import Any

from bowerbird.compiler.capture import Call, Name
from bowerbird.compiler.lifting.layout import apart
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Along, Ref
from bowerbird.compiler.size import Rows

_ALONG = {
    "cumsum.default": (1,), "cumprod.default": (1,), "sort.default": (1,), "sort.stable": (2,), "topk.default": (2,),
    "flip.default": (1,), "_log_softmax.default": (1,), "log_softmax.int": (1,), "max.dim": (1,), "min.dim": (1,),
    "gather.default": (1,), "glu.default": (1,), "roll.default": (2,), "argsort.default": (1,),
}  # fmt: skip
"""Operators that keep every row to itself unless they work along the rows: where their dimensions stand."""

_DEFAULT_DIMS = {"sort.default": -1, "topk.default": -1, "glu.default": -1, "argsort.default": -1, "sort.stable": -1}


@rule(*_ALONG)
def along(lifter: Lifter, call: Call) -> Lifted:
    """Works along dimensions that are not the rows'."""
    places = _ALONG[call.target]
    given = list(call.arguments)
    if len(given) <= places[0]:
        given += [None] * (places[0] - len(given)) + [_DEFAULT_DIMS.get(call.target, -1)]
    operands = [lifter.get(each) for each in given if isinstance(each, Name)]
    first = operands[0]
    if any(each.rows != first.rows or each.rank != first.rank for each in operands):
        raise Coupled("the rows of its inputs stand in different dimensions")
    arguments: list[Any] = []
    for place, each in enumerate(given):
        if isinstance(each, Name):
            arguments.append(Ref(sum(isinstance(other, Name) for other in given[:place])))
        elif place in places:
            dims = tuple(apart(first, dim, "it works along the rows") for dim in (each if _is_list(each) else [each]))
            arguments.append(dims if _is_list(each) else dims[0])
        else:
            arguments.append(tuple(each) if _is_list(each) else each)
    operation = Along(call.target, tuple(arguments), call.output)
    rows = first.rows
    if call.target in ("max.dim", "min.dim") and not (len(given) > 2 and given[2]):
        dim = given[1] % first.rank
        rows = None if rows is None else Rows(rows.dim - (dim < rows.dim), rows.outer, rows.inner)
    return lifter.make(call, operation, [each.node for each in operands], rows)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
