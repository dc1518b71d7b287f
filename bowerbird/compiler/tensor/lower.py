"""From a request's graph to a tensor program: for each operation the steps that compute it, where there are some."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from bowerbird.compiler.graph import Node, RowGraph
from bowerbird.compiler.operations import (
    Cast,
    Choose,
    Concat,
    Dice,
    Expand,
    Input,
    LayerNorm,
    Linear,
    Permute,
    Pointwise,
    Prelu,
    Product,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Stack,
)
from bowerbird.compiler.tensor.attention import Attention, match_attention
from bowerbird.compiler.tensor.draft import TensorDraft, held, reshaped
from bowerbird.compiler.tensor.elements import element_of
from bowerbird.kernels.tensor_spec import ARITY, TensorSpec
from bowerbird.kernels.tensor_view import Shape, View

_DTYPES = frozenset({"float32", "bool"})
_REDUCTIONS = {"sum.dim_IntList": "sum", "mean.dim": "mean", "amax.default": "max"}
_MOST_PARTS = 64
"""The most copies that one operation is worth."""


@dataclass(frozen=True)
class TensorLowering:
    """A graph in parts: ``before`` by PyTorch, then ``spec`` by the native engine; ``passed`` are given or by PyTorch.

    ``outputs`` are the engine's answers with their shapes and dtypes, in order.
    """

    spec: TensorSpec
    before: RowGraph
    outputs: dict[str, tuple[Shape, str]]
    passed: dict[str, str]
    native_share: float
    """The share of the operations that the engine computes."""


def lower_tensors(graph: RowGraph) -> TensorLowering:
    """Return a graph whose inputs all have one row as a tensor program, with what stays PyTorch's before it."""
    lowerer = _Lowerer(graph)
    outputs: dict[str, View] = {}
    passed: dict[str, str] = {}
    for name, node in graph.outputs.items():
        if isinstance(node.operation, Input):
            passed[name] = node.operation.name
            continue
        view = lowerer.view(node)
        if view is None or view.of.startswith(_BEFORE):
            passed[name] = lowerer.by_torch(node)
        else:
            outputs[name] = view
    spec = lowerer.draft.finished(outputs)
    needed = {*spec.inputs, *passed.values()}
    before = {name: node for name, node in lowerer.before.items() if name in needed}
    rest = RowGraph(graph.builder, before)
    total = sum(node.flops for node in graph.nodes() if node.stage != "constant")
    by_torch = sum(node.flops for node in rest.nodes() if node.stage != "constant")
    about = {name: (graph.outputs[name].shape, graph.outputs[name].dtype) for name in outputs}
    return TensorLowering(spec, rest, about, passed, 1.0 - by_torch / max(total, 1))


_BEFORE = "before."


class _Lowerer:
    def __init__(self, graph: RowGraph) -> None:
        self.graph = graph
        self.draft = TensorDraft()
        self.before: dict[str, Node] = {}
        self.uses = Counter(id(each) for node in graph.nodes() for each in node.inputs)
        self.uses.update(id(node) for node in graph.outputs.values())
        self._views: dict[int, View | None] = {}
        for node in graph.nodes():
            self.view(node)

    def view(self, node: Node) -> View | None:
        """Return where a node's numbers stand; None where they are neither numbers nor truth values."""
        if id(node) not in self._views:
            self._views[id(node)] = self._viewed(node)
        return self._views[id(node)]

    def by_torch(self, node: Node) -> str:
        """Return the name of a value that PyTorch computes before the engine runs."""
        name = f"{_BEFORE}{len(self.before)}"
        known = next((known for known, each in self.before.items() if each is node), name)
        return known if self.before.setdefault(known, node) is node else name

    def _viewed(self, node: Node) -> View | None:
        if node.dtype not in _DTYPES or 0 in node.shape:
            return None
        if node.stage == "constant":
            return self.draft.constant(self.graph.builder.value(node))
        if isinstance(node.operation, Input):
            return self.draft.given(node.operation.name, node.shape, node.dtype == "bool")
        inputs = [self.view(each) for each in node.inputs]
        found = self._lowered(node, [each for each in inputs if each is not None]) if None not in inputs else None
        if found is None:
            return self.draft.given(self.by_torch(node), node.shape, node.dtype == "bool")
        return found

    def _lowered(self, node: Node, x: list[View]) -> View | None:
        draft, rank = self.draft, len(node.inputs[0].shape) if node.inputs else 0
        match node.operation:
            case Reshape(shape):
                return draft.reshaped(x[0], shape)
            case Cast("float32"):
                return x[0]
            case Permute(dims):
                return x[0].permuted([dim % rank for dim in dims])
            case Expand(shape):
                return x[0].expanded(shape)
            case Slice(dim, start, stop, step):
                return x[0].part(dim % rank, start, stop, step)
            case Choose(dim, places) if len(places) <= _MOST_PARTS:
                return self._joined(node, [x[0].part(dim % rank, place, place + 1) for place in places], dim)
            case Concat(dim):
                return self._joined(node, x, dim)
            case Stack():
                return self._joined(node, [replace(each, shape=(1,), strides=(1,)) for each in x], -1)
            case Pointwise():
                return self._pointwise(node, node.operation, x)
            case Prelu():
                below = draft.pointwise("mul", [x[1], x[0]])
                return draft.pointwise("where", [self._above_zero(x[0]), x[0], below])
            case Dice():
                return self._dice(x)
            case Linear():
                return self._linear(node, x[0])
            case Product():
                return self._product(node, x)
            case Reduce():
                return self._reduce(node, node.operation, x[0])
            case Softmax(dim):
                return self._softmax(x[0], dim % rank)
            case LayerNorm(epsilon):
                weight, bias = (held(self.graph.builder.value(each)) for each in node.inputs[1:])
                given = draft.whole(x[0])
                return draft.step(
                    "layer_norm", draft.new(node.shape), [given], weight=weight, bias=bias, number=epsilon
                )
        return None

    def _joined(self, node: Node, parts: list[View], dim: int) -> View:
        made, start = self.draft.new(node.shape), 0
        for part in parts:
            size = part.shape[dim]
            self.draft.step("pointwise", made.part(dim % len(made.shape), start, start + size), [part])
            start += size
        return made

    def _pointwise(self, node: Node, operation: Pointwise, x: list[View]) -> View | None:
        found = element_of(operation, node.dtype == "bool")
        if found is None:
            return None
        element, operands, numbers = found
        fused = self._fused(node, element, numbers)
        if fused is not None:
            return fused
        given = [x[each] if isinstance(each, int) else self._number(each) for each in operands]
        return self.draft.pointwise(element, given, *numbers)

    def _number(self, value: float) -> View:
        return self.draft.constant(self.graph.builder.value(self.graph.builder.scalar(value)))

    def _fused(self, node: Node, element: str, numbers: tuple[float, ...]) -> View | None:
        """Return the result of the linear step just made, with a function of it alone taken in."""
        given, steps = node.inputs[0], self.draft.steps
        view = self.view(given)
        if view is None or not steps or ARITY[element] != 1 or not self._reads_alone(given):
            return None
        made = steps[-1]
        if made.op != "linear" or made.out.of != view.of or made.element != "copy":
            return None
        if math.prod(view.shape) != math.prod(made.out.shape):
            return None
        steps[-1] = replace(made, element=element, numbers=numbers)
        return view

    def _reads_alone(self, node: Node) -> bool:
        """Return whether a value has one reader, also through reshapes."""
        while isinstance(node.operation, Reshape) and self.uses[id(node)] <= 1:
            node = node.inputs[0]
        return self.uses[id(node)] <= 1

    def _above_zero(self, view: View) -> View:
        return self.draft.pointwise("gt", [view, self._number(0.0)])

    def _dice(self, x: list[View]) -> View:
        draft = self.draft
        given, alpha, scale, shift = x
        inner = draft.pointwise("add", [draft.pointwise("mul", [given, scale]), shift])
        rest = draft.pointwise("scale_shift", [alpha], -1.0, 1.0)
        gate = draft.pointwise("mul", [draft.pointwise("sigmoid", [inner]), rest])
        return draft.pointwise("mul", [given, draft.pointwise("add", [gate, alpha])])

    def _linear(self, node: Node, given: View) -> View:
        weight, *bias = (held(self.graph.builder.value(each)) for each in node.inputs[1:])
        rows = math.prod(node.shape[:-1])
        flat = self.draft.whole(self.draft.reshaped(given, (rows, weight.shape[1])))
        made = self.draft.new((rows, weight.shape[0]))
        self.draft.step("linear", made, [flat], weight=weight, bias=bias[0] if bias else None)
        return View.whole(made.of, node.shape)

    def _product(self, node: Node, x: list[View]) -> View | None:
        found = match_attention(node, lambda each: self.uses[id(each)], self.graph.builder)
        if found is not None:
            return self._attention(node, found)
        batch = node.shape[:-2]
        first = self.draft.whole(x[0]).expanded((*batch, *x[0].shape[-2:]))
        second = x[1].expanded((*batch, *x[1].shape[-2:]))
        return self.draft.step("product", self.draft.new(node.shape), [first, second])

    def _attention(self, node: Node, found: Attention) -> View | None:
        draft, heads = self.draft, math.prod(node.shape[:-2])
        query, keys, values = (self.view(each) for each in (found.query, found.keys, found.values))
        if query is None or keys is None or values is None:
            return None
        turned = keys.permuted([*range(len(keys.shape) - 2), len(keys.shape) - 1, len(keys.shape) - 2])
        batch = node.shape[:-2]
        given = [
            draft.whole(draft.reshaped(each.expanded((*batch, *each.shape[-2:])), (heads, *each.shape[-2:])))
            for each in (query, turned, values)
        ]
        if found.unseen is not None:
            unseen = self.view(found.unseen)
            if unseen is None:
                return None
            given.append(draft.pointwise("not", [draft.reshaped(unseen, (unseen.shape[-1],))]))
        out = draft.new((node.shape[-2], heads, node.shape[-1])).permuted((1, 0, 2))
        draft.step("attention", out, given, number=found.scale)
        seen = reshaped(out, node.shape)
        return seen if seen is not None else draft.reshaped(out, node.shape)

    def _reduce(self, node: Node, operation: Reduce, given: View) -> View | None:
        rank = len(given.shape)
        gone = [dim % rank for dim in operation.dims] or list(range(rank))
        turned = given.permuted([*(dim for dim in range(rank) if dim not in gone), *gone])
        out = self.draft.new(node.shape)
        if operation.target == "any.dim":
            return self.draft.step("reduce", out, [turned], reduction="max")
        if operation.target == "linalg_vector_norm.default" and operation.more in ((), (2,), (2.0,)):
            squares = self.draft.pointwise("square", [turned])
            return self.draft.pointwise("sqrt", [self.draft.step("reduce", out, [squares], reduction="sum")])
        kind = _REDUCTIONS.get(operation.target)
        if kind is None or node.inputs[0].dtype != "float32":
            return None
        return self.draft.step("reduce", out, [turned], reduction=kind)

    def _softmax(self, given: View, dim: int) -> View:
        order = [each for each in range(len(given.shape)) if each != dim] + [dim]
        turned = self.draft.whole(given.permuted(order))
        made = self.draft.step("softmax", self.draft.new(turned.shape), [turned])
        return made.permuted([order.index(each) for each in range(len(order))])
