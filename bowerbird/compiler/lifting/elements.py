"""Operators on elements: rows must stand at one place."""

from __future__ import annotations

import torch

from bowerbird.compiler.capture import Call, Name
from bowerbird.compiler.lifting.layout import meeting, rows_of_shape
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Argument, Cast, Expand, Pointwise, Ref
from bowerbird.compiler.size import Size, row_shape

_IDENTITIES = (
    "clone.default", "alias.default", "detach.default", "contiguous.default", "lift_fresh_copy.default",
    "dropout.default", "positive.default",
)  # fmt: skip


@rule("pointwise")
def pointwise(lifter: Lifter, call: Call) -> Lifted:
    """Elements at one place meet: rows must stand at the same place, counted from the end, in all that have them."""
    operands: list[Lifted] = []
    arguments: list[Argument] = []
    for argument in call.arguments:
        if isinstance(argument, Name):
            arguments.append(Ref(len(operands)))
            operands.append(lifter.get(argument))
        elif isinstance(argument, Size) and not argument.fixed:
            raise Coupled("it computes with the number of rows")
        elif isinstance(argument, bool | int | float | str | None):
            arguments.append(argument)
        else:
            raise Coupled("one of its arguments is not understood")
    nodes, rows = meeting(lifter, operands)
    return lifter.make(call, Pointwise(call.target, tuple(arguments)), nodes, rows)


@rule(*_IDENTITIES)
def identity(lifter: Lifter, call: Call) -> Lifted:
    """The value itself."""
    return lifter.get(call.arguments[0])


@rule("_to_copy.default", "to.dtype")
def cast(lifter: Lifter, call: Call) -> Lifted:
    """Each element in another dtype."""
    given = lifter.get(call.arguments[0])
    node = given.node if given.node.dtype == call.dtype else lifter.builder.add(Cast(call.dtype), [given.node])
    return lifter.finish(call, node, given.rows)


@rule("full.default", "scalar_tensor.default", "zeros.default", "ones.default", "full_like.default")
def full(lifter: Lifter, call: Call) -> Lifted:
    """One number everywhere: the same for every row."""
    value = {"zeros.default": 0, "ones.default": 1}.get(call.target)
    if value is None:
        value = call.arguments[0] if call.target == "scalar_tensor.default" else call.arguments[1]
    if not isinstance(value, bool | int | float):
        raise Coupled("its value is not a number")
    rows = rows_of_shape(call.shape)
    one = lifter.builder.constant(torch.tensor(value, dtype=getattr(torch, call.dtype)))
    return lifter.make(call, Expand(row_shape(call.shape, rows)), [one], rows)
