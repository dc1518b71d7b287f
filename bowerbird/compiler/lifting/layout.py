"""Where rows stand: what the rules ask of it."""

from __future__ import annotations

from typing import Any

from bowerbird.compiler.graph import Node
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter
from bowerbird.compiler.size import Rows, Size


def meeting(lifter: Lifter, operands: list[Lifted]) -> tuple[list[Node], Rows | None]:
    """Return rows' nodes that broadcast as the module's tensors do, and where the result's rows are."""
    places = {(each.rank - each.rows.dim, each.rows.outer, each.rows.inner) for each in operands if each.rows}
    if not places:
        return [each.node for each in operands], None
    if len(places) > 1:
        raise Coupled("the rows of its inputs stand in different dimensions")
    behind, outer, inner = places.pop()
    rank = max(each.rank for each in operands)
    rows = Rows(rank - behind, outer, inner)
    return [without_place(lifter, each, behind, rows.fold) for each in operands], rows


def without_place(lifter: Lifter, operand: Lifted, behind: int, fold: int) -> Node:
    """Return the node of an operand whose place of the rows, if it has one element, is taken away."""
    if operand.rows is not None or fold > 1 or operand.rank < behind:
        return operand.node
    dim = operand.rank - behind
    if operand.node.shape[dim] != 1:
        raise Coupled("a value without rows has several elements where the others have their rows")
    shape = operand.node.shape
    return lifter.reshape(operand.node, (*shape[:dim], *shape[dim + 1 :]))


def rows_of_shape(shape: tuple[Size, ...]) -> Rows | None:
    """Return where the rows are in a tensor whose rows are all alike."""
    holders = [place for place, size in enumerate(shape) if not size.fixed]
    if len(holders) > 1 or any(shape[place].plus for place in holders):
        raise Coupled("its rows stand in several dimensions")
    return Rows(holders[0], 1, shape[holders[0]].times) if holders else None


def row_dim(dim: int, rank: int, rows: Rows | None) -> int:
    """Return a dimension of the module's tensor as one of a row's shape, counted from the end."""
    if rows is not None and rows.fold == 1 and dim < rows.dim:
        return dim - rank + 1
    return dim - rank


def apart(given: Lifted, dim: int, what: str) -> int:
    """Return a dimension of a row's shape; raises Coupled where it is the rows'."""
    place = dim % given.rank if given.rank else 0
    if given.rows is not None and place == given.rows.dim:
        raise Coupled(what)
    return row_dim(place, given.rank, given.rows)


def with_defaults(given: tuple[Any, ...], defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with the defaults of those that were left out at the end."""
    return (*given, *defaults[len(given) :])


def plain_size(value: Any) -> int | None:
    """Return a bound of an argument as a number; raises Coupled where it depends on the number of rows."""
    if isinstance(value, Size):
        if not value.fixed:
            raise Coupled("its bounds depend on the number of rows")
        return value.plus
    return None if value is None else int(value)
