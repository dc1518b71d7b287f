"""Products of matrices: the rows are not what is summed over."""

from __future__ import annotations

from dataclasses import replace

from bowerbird.compiler.capture import Call
from bowerbird.compiler.lifting.layout import apart, meeting
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import Linear, Permute, Pointwise, Product, Ref
from bowerbird.compiler.size import Rows, row_shape


@rule("linear.default")
def linear(lifter: Lifter, call: Call) -> Lifted:
    """Sums over the last dimension, which must not be the rows', with constant weights."""
    given, weight = (lifter.get(each) for each in call.arguments[:2])
    bias = [lifter.get(each) for each in call.arguments[2:3] if each is not None]
    if any(each.node.stage != "constant" or each.rows is not None for each in (weight, *bias)):
        raise Coupled("its weight is not constant")
    apart(given, -1, "it sums over rows")
    return lifter.make(call, Linear(), [given.node, weight.node, *(each.node for each in bias)], given.rows)


@rule("addmm.default", "baddbmm.default")
def product_and_sum(lifter: Lifter, call: Call) -> Lifted:
    """A product of matrices, added to another one."""
    if any(each != 1 for each in call.arguments[3:]):
        raise Coupled("the compiler has no rule for its factors")
    target = "mm.default" if call.target == "addmm.default" else "bmm.default"
    product = matrix_product(lifter, replace(call, target=target, arguments=call.arguments[1:3]))
    nodes, rows = meeting(lifter, [product, lifter.get(call.arguments[0])])
    return lifter.make(call, Pointwise("add.Tensor", (Ref(0), Ref(1))), nodes, rows)


@rule("mm.default", "matmul.default", "bmm.default")
def matrix_product(lifter: Lifter, call: Call) -> Lifted:
    """Sums over the inner dimension, which must not be the rows'."""
    first, second = (lifter.get(each) for each in call.arguments[:2])
    if first.rank < 2 or second.rank < 2:
        return _product_of_vector(lifter, call, first, second)
    rank = len(call.shape)
    rows = _product_rows(first, second)
    if rows is None or rows.dim < rank - 2:
        nodes, _ = meeting(lifter, [first, second])
        return lifter.make(call, Product(), nodes, rows)
    if second.rows is None and second.rank == 2 and second.node.stage == "constant":
        turned = lifter.builder.add(Permute((-1, -2)), [second.node], call.where)
        return lifter.make(call, Linear(), [first.node, turned], rows)
    nodes = [lifter.keep(first), lifter.keep(second)]
    result = lifter.builder.add(Product(), nodes, call.where)
    return lifter.finish(call, lifter.reshape(result, row_shape(call.shape, rows)), rows)


def _product_rows(first: Lifted, second: Lifted) -> Rows | None:
    """Return where the rows of a matrix product are; raises Coupled where it sums over them or they cross."""
    rank = max(first.rank, second.rank)
    found: set[Rows] = set()
    for operand, inner in ((first, 1), (second, 2)):
        if operand.rows is None:
            continue
        behind = operand.rank - operand.rows.dim
        if behind == inner:
            raise Coupled("it sums over rows")
        found.add(Rows(rank - behind, operand.rows.outer, operand.rows.inner))
    if len(found) > 1:
        raise Coupled("every row meets every row")
    both = first.rows is not None and second.rows is not None
    rows = found.pop() if found else None
    if both and rows is not None and rows.dim >= rank - 2:
        raise Coupled("every row meets every row")
    return rows


def _product_of_vector(lifter: Lifter, call: Call, first: Lifted, second: Lifted) -> Lifted:
    """A vector stands for a matrix of one row (left) or one column (right), which is taken away again."""
    for operand, inner in ((first, first.rank - 1), (second, max(second.rank - 2, 0))):
        if operand.rows is not None and operand.rows.dim == inner:
            raise Coupled("it sums over rows")
    if first.rows is not None and second.rows is not None:
        raise Coupled("every row meets every row")
    rows = first.rows or second.rows
    if rows is not None and (second.rows is not None or second.rank != 1 or rows.fold > 1):
        raise Coupled("the compiler has no rule for it")
    left = first.node if first.rank > 1 else lifter.reshape(first.node, (1, *first.node.shape))
    column = lifter.reshape(second.node, (*second.node.shape, 1)) if second.rank == 1 else second.node
    if rows is not None and len(left.shape) < 2:
        left = lifter.reshape(left, (1, *left.shape))
    result = lifter.builder.add(Product(), [left, column], call.where)
    return lifter.finish(call, lifter.reshape(result, row_shape(call.shape, rows)), rows)
