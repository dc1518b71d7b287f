"""For each operator: why its rows are kept apart, and what it is for one row."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from bowerbird.compiler.capture import Call, Name
from bowerbird.compiler.graph import Node
from bowerbird.compiler.lift import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import (
    Along,
    Argument,
    Cast,
    Choose,
    Concat,
    Expand,
    LayerNorm,
    Linear,
    Permute,
    Pointwise,
    Product,
    Reduce,
    Ref,
    Slice,
    Softmax,
    TakeRows,
)
from bowerbird.compiler.size import ROWS, Rows, Size, reshaped_rows, row_shape

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
    return [_without_place(lifter, each, behind, rows.fold) for each in operands], rows


def _without_place(lifter: Lifter, operand: Lifted, behind: int, fold: int) -> Node:
    """Return the node of an operand whose place of the rows, if it has one element, is taken away."""
    if operand.rows is not None or fold > 1 or operand.rank < behind:
        return operand.node
    dim = operand.rank - behind
    if operand.node.shape[dim] != 1:
        raise Coupled("a value without rows has several elements where the others have their rows")
    shape = operand.node.shape
    return lifter.reshape(operand.node, (*shape[:dim], *shape[dim + 1 :]))


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
    rows = _rows_of_shape(call.shape)
    one = lifter.builder.constant(torch.tensor(value, dtype=getattr(torch, call.dtype)))
    return lifter.make(call, Expand(row_shape(call.shape, rows)), [one], rows)


def _rows_of_shape(shape: tuple[Size, ...]) -> Rows | None:
    """Return where the rows are in a tensor whose rows are all alike."""
    holders = [place for place, size in enumerate(shape) if not size.fixed]
    if len(holders) > 1 or any(shape[place].plus for place in holders):
        raise Coupled("its rows stand in several dimensions")
    return Rows(holders[0], 1, shape[holders[0]].times) if holders else None


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
    rows = _rows_of_shape(call.shape)
    node = given.node
    if rows is not None and rows.fold == 1:
        node = _without_place(lifter, given, len(call.shape) - rows.dim, 1)
    return lifter.make(call, Expand(row_shape(call.shape, rows)), [node], rows)


@rule("repeat.default")
def repeat(lifter: Lifter, call: Call) -> Lifted:
    """A row's values follow themselves along dimensions that are not the rows'; a value without rows may get them."""
    given = lifter.get(call.arguments[0])
    times = [each if isinstance(each, Size) else Size(0, each) for each in call.arguments[1]]
    shape = [1] * (len(times) - given.rank) + [size.plus for size in given.shape]
    rows = _rows_of_shape(call.shape)
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
    first, last, _ = slice(_plain(start), _plain(stop)).indices(length)
    place = row_dim(dim, given.rank, given.rows)
    return lifter.make(call, Slice(place, first, max(last, first), step or 1), [given.node], given.rows)


def with_defaults(given: tuple[Any, ...], defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with the defaults of those that were left out at the end."""
    return (*given, *defaults[len(given) :])


def _plain(value: Any) -> int | None:
    if isinstance(value, Size):
        if not value.fixed:
            raise Coupled("its bounds depend on the number of rows")
        return value.plus
    return None if value is None else int(value)


@rule("select.int")
def select(lifter: Lifter, call: Call) -> Lifted:
    """One element along a dimension that is not the rows'."""
    given = lifter.get(call.arguments[0])
    dim, index = call.arguments[1] % given.rank, _plain(call.arguments[2])
    assert index is not None
    place = apart(given, dim, "it picks one row")
    index %= given.shape[dim].plus
    part = lifter.builder.add(Slice(place, index, index + 1), [given.node], call.where)
    rows = given.rows
    if rows is not None and dim < rows.dim:
        rows = Rows(rows.dim - 1, rows.outer, rows.inner)
    return lifter.finish(call, lifter.reshape(part, row_shape(call.shape, rows)), rows)


@rule("split_with_sizes.default", "split.Tensor", "chunk.default", "unbind.int")
def split(lifter: Lifter, call: Call) -> Lifted:
    """Parts along a dimension that is not the rows'; each result is one of them."""
    given = lifter.get(call.arguments[0])
    assert call.output is not None
    dim = (call.arguments[-1] if len(call.arguments) > (1 if call.target == "unbind.int" else 2) else 0) % given.rank
    if call.target == "unbind.int":
        raise Coupled("the compiler has no rule for it")
    place = apart(given, dim, "it takes a part of the rows")
    if call.target == "split_with_sizes.default":
        sizes = [_plain(each) or 0 for each in call.arguments[1]]
        start = sum(sizes[: call.output])
    else:
        start = call.output * int(call.arguments[1])
    part = Slice(place, start, start + call.shape[dim].plus)
    return lifter.make(call, part, [given.node], given.rows)


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


@rule("softmax.int", "_softmax.default")
def softmax(lifter: Lifter, call: Call) -> Lifted:
    """Weights along a dimension that is not the rows'."""
    given = lifter.get(call.arguments[0])
    dim = apart(given, call.arguments[1], "it is a softmax over rows")
    return lifter.make(call, Softmax(dim), [given.node], given.rows)


@rule("layer_norm.default")
def layer_norm(lifter: Lifter, call: Call) -> Lifted:
    """Statistics over the last dimensions, which must not be the rows'."""
    given = lifter.get(call.arguments[0])
    shape = [_plain(each) or 0 for each in call.arguments[1]]
    for dim in range(given.rank - len(shape), given.rank):
        apart(given, dim, "it normalises over rows")
    width = math.prod(shape)
    filled = with_defaults(call.arguments[2:5], (None, None, 1e-5))
    ones, zeros = torch.ones(width), torch.zeros(width)
    weight, bias = (
        lifter.builder.constant(default) if each is None else lifter.reshape(lifter.get(each).node, (width,))
        for each, default in zip(filled[:2], (ones, zeros), strict=True)
    )
    outer = given.node.shape[: len(given.node.shape) - len(shape)]
    flat = lifter.reshape(given.node, (*outer, width))
    normed = lifter.builder.add(LayerNorm(float(filled[2])), [flat, weight, bias], call.where)
    return lifter.finish(call, lifter.reshape(normed, given.node.shape), given.rows)


@rule("_native_batch_norm_legit_no_training.default")
def batch_norm(lifter: Lifter, call: Call) -> Lifted:
    """With statistics that stand still: a factor and a shift for each channel, the second dimension."""
    given = lifter.get(call.arguments[0])
    if call.output != 0:
        raise Coupled("its statistics are used")
    channel = apart(given, 1, "its rows are the channels")
    weight, bias, mean, variance = (
        None if each is None else lifter.builder.value(lifter.get(each).node) for each in call.arguments[1:5]
    )
    assert mean is not None and variance is not None
    factor = (variance + float(call.arguments[6])).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * factor
    shape = (len(mean), *(1,) * (-channel - 1))
    constants = [lifter.builder.constant(each.reshape(shape)) for each in (factor, shift)]
    scaled = lifter.builder.add(Pointwise("mul.Tensor", (Ref(0), Ref(1))), [given.node, constants[0]], call.where)
    return lifter.make(call, Pointwise("add.Tensor", (Ref(0), Ref(1))), [scaled, constants[1]], given.rows)


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


@rule("constant_pad_nd.default")
def pad(lifter: Lifter, call: Call) -> Lifted:
    """A constant put before and behind along dimensions that are not the rows'."""
    given = lifter.get(call.arguments[0])
    pads = [_plain(each) or 0 for each in call.arguments[1]]
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
        first = (_plain(start) or 0) % length
        last, step = first + 1, 1
        shape = list(given.node.shape)
        shape[place] = 1
        node = lifter.reshape(node, tuple(shape))
    else:
        first, last, _ = slice(_plain(start), _plain(stop)).indices(length)
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


def _chosen(lifter: Lifter, call: Call, given: Lifted, index: Lifted, dim: int) -> Lifted:
    if index.node.stage != "constant" or index.node.dtype == "bool":
        raise Coupled("its index is not constant")
    places = tuple(int(each) for each in lifter.builder.value(index.node).reshape(-1))
    return lifter.make(call, Choose(dim, places), [given.node], given.rows)
