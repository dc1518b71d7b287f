"""Operators that move or repeat elements: the rows stay one dimension."""

from __future__ import annotations

from bowerbird.compiler.capture import Call
from bowerbird.compiler.lifting.layout import rows_of_shape, without_place
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Expand, Permute
from bowerbird.compiler.size import ROWS, Rows, Size, reshaped_rows, row_shape


@rule("view.default", "reshape.default", "_unsafe_view.default", "unsqueeze.default", "squeeze.dim", "squeeze.dims",
      "squeeze.default", "flatten.using_ints", "unflatten.int")  # fmt: skip
def reshape(lifter: Lifter, call: Call) -> Lifted:
    """Elements keep their order: rows stay one axis of it where one dimension of the new shape holds them."""
    given = lifter.get(call.arguments[0])
    rows = None
    if given.rows is not None:
        rows = reshaped_rows(given.rows, given.shape, call.shape)
        if rows is None:
            raise Coupled("it mixes rows with other dimensions")
    return lifter.finish(call, lifter.reshape(given.node, row_shape(call.shape, rows)), rows)


@rule("permute.default", "transpose.int", "t.default")
def permute(lifter: Lifter, call: Call) -> Lifted:
    """Dimensions move, the rows' among them."""
    given = lifter.get(call.arguments[0])
    order = list(range(given.rank))
    if call.target == "permute.default":
        order = [each.plus if isinstance(each, Size) else each % given.rank for each in call.arguments[1]]
    elif given.rank > 1:
        first, second = call.arguments[1:] if call.target == "transpose.int" else (0, 1)
        order[first], order[second] = order[second], order[first]
    if given.rows is None or given.rows.fold > 1:
        rows = None if given.rows is None else Rows(order.index(given.rows.dim), given.rows.outer, given.rows.inner)
        return lifter.make(call, Permute(tuple(each - given.rank for each in order)), [given.node], rows)
    dim = given.rows.dim
    rest = [each - (each > dim) for each in order if each != dim]
    rank = given.rank - 1
    return lifter.make(call, Permute(tuple(each - rank for each in rest)), [given.node], Rows(order.index(dim)))


@rule("expand.default")
def expand(lifter: Lifter, call: Call) -> Lifted:
    """One element is repeated; repeated along the rows it is the same for every row."""
    given = lifter.get(call.arguments[0])
    if given.rows is not None:
        rows: Rows | None = Rows(given.rows.dim + len(call.shape) - given.rank, given.rows.outer, given.rows.inner)
        return lifter.make(call, Expand(row_shape(call.shape, rows)), [given.node], rows)
    rows = rows_of_shape(call.shape)
    node = given.node
    if rows is not None and rows.fold == 1:
        node = without_place(lifter, given, len(call.shape) - rows.dim, 1)
    return lifter.make(call, Expand(row_shape(call.shape, rows)), [node], rows)


@rule("repeat.default")
def repeat(lifter: Lifter, call: Call) -> Lifted:
    """A row's values follow themselves along dimensions that are not the rows'; a value without rows may get them."""
    given = lifter.get(call.arguments[0])
    times = [each if isinstance(each, Size) else Size(0, each) for each in call.arguments[1]]
    shape = [1] * (len(times) - given.rank) + [size.plus for size in given.shape]
    rows = rows_of_shape(call.shape)
    if given.rows is not None:
        rows = Rows(given.rows.dim + len(times) - given.rank, given.rows.outer, given.rows.inner)
        if times[rows.dim] != Size(0, 1):
            raise Coupled("it puts rows behind rows")
        shape[rows.dim] = rows.fold
    elif rows is not None:
        if times[rows.dim] != ROWS or shape[rows.dim] != 1:
            raise Coupled("it repeats several elements along the rows")
        times[rows.dim] = Size(0, 1)
    node = lifter.reshape(given.node, tuple(part for size in shape for part in (1, size)))
    wide = tuple(part for size, count in zip(shape, times, strict=True) for part in (count.plus, size))
    repeated = lifter.builder.add(Expand(wide), [node], call.where)
    return lifter.finish(call, lifter.reshape(repeated, row_shape(call.shape, rows)), rows)
