"""From a pair graph to a pair program: for each operation the step that computes it, where there is one."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from bowerbird.compiler.graph import Node, RowGraph, ordered
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
    Ref,
    Reshape,
    Slice,
    Softmax,
    Stack,
)
from bowerbird.compiler.pair import fields
from bowerbird.compiler.pair.activation import activation_of
from bowerbird.compiler.pair.attention import Attentions
from bowerbird.compiler.pair.program import Draft, PairLowering, Step
from bowerbird.compiler.rewrite import binary

_BINARY = {
    "add.Tensor": "add", "sub.Tensor": "sub", "mul.Tensor": "mul", "div.Tensor": "div",
    "maximum.default": "maximum", "minimum.default": "minimum",
}  # fmt: skip
MOST_ROWS = 512
"""The most rows of one candidate that are computed one by one."""
_MOST_SLICES = 32
"""The most pieces in which a slice is joined."""
SMALL_SHARE = 0.05
"""The share of a candidate's operations that PyTorch may compute before the engine runs."""
_FUSED = frozenset(
    {"relu", "leaky_relu", "prelu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "elu", "softplus", "dice"}
)
_REDUCTIONS = {"sum.dim_IntList": "sum", "mean.dim": "mean", "amax.default": "max"}


def lower_pair(graph: RowGraph) -> PairLowering:
    """Return a pair graph as a pair program, with what stays PyTorch's before and after it."""
    return _Lowerer(graph).result()


class _Lowerer:
    def __init__(self, graph: RowGraph) -> None:
        self.graph = graph
        self.draft = Draft(graph.builder)
        self.uses = Counter(id(each) for node in graph.nodes() for each in node.inputs)
        self.uses.update(id(node) for node in graph.outputs.values())
        self.attentions = Attentions(graph.nodes(), graph.builder)
        self.flops = sum(node.flops for node in graph.nodes() if node.stage == "pair")
        self._names: dict[int, str | None] = {}
        self._before: dict[str, Node] = {}
        self._of_step: dict[str, Node] = {}

    def result(self) -> PairLowering:
        roots = {name: self.name(node) for name, node in self.graph.outputs.items() if node.stage == "pair"}
        native, after = self._after(roots)
        steps, used = _needed(self.draft.steps, list(native))
        outputs = sorted(native)
        spec = {
            "inputs": [
                {"name": name, "stage": stage, "width": source.width, "length": source.length}
                for stage, sources in (("request", self.draft.request), ("item", self.draft.items))
                for name, source in sources.items() if name in used
            ],
            "steps": steps,
            "outputs": outputs,
        }  # fmt: skip
        weights = {name: value for name, value in self.draft.weights.items() if name in _mentioned(steps)}
        pair = [node for node in self.graph.nodes() if node.stage == "pair"]
        done = {id(each) for node in native.values() for each in ordered([node])}
        total = max(sum(node.flops for node in pair), 1)
        needed = {source.name for name, source in (self.draft.request | self.draft.items).items() if name in used}
        before = {name: node for name, node in self._before.items() if name in needed}
        return PairLowering(
            spec=spec,
            weights=weights,
            request={name: source for name, source in self.draft.request.items() if name in used},
            items={name: source for name, source in self.draft.items.items() if name in used},
            request_part={name: node for name, node in before.items() if node.stage == "request"},
            before=RowGraph(
                self.graph.builder, {name: node for name, node in before.items() if node.stage != "request"}
            ),
            after=after,
            native_share=sum(node.flops for node in pair if id(node) in done) / total if steps else 0.0,
        )

    def _after(self, roots: dict[str, str | None]) -> tuple[dict[str, Node], RowGraph]:
        """Return what the program has to answer, by its names, and the graph that goes on from there."""
        build = self.graph.builder
        native: dict[str, Node] = {}
        new: dict[int, Node] = {}
        for node in ordered(self.graph.outputs.values(), self._is_native):
            if self._is_native(node):
                name = self._names[id(node)]
                assert name is not None
                native[name] = node
                new[id(node)] = build.input(answer_name(name, node.shape), node.shape, "float32", "pair")
            else:
                new[id(node)] = build.add(node.operation, [new[id(item)] for item in node.inputs], node.where)
        return native, RowGraph(build, {name: new[id(node)] for name, node in self.graph.outputs.items()})

    def _is_native(self, node: Node) -> bool:
        name = self._names.get(id(node))
        return node.stage == "pair" and name is not None and name in self._of_step

    def name(self, node: Node) -> str | None:
        """Return the name of a node's value as a matrix of one flat row per candidate; None where there is none."""
        if id(node) not in self._names:
            self._names[id(node)] = self._named(node)
        return self._names[id(node)]

    def sequence(self, node: Node) -> str:
        """Return the name of a request's value as a sequence, one flat row per position."""
        width = math.prod(node.shape[1:])
        if node.stage == "constant":
            return self.draft.constant(node, width)
        if isinstance(node.operation, Input):
            return self.draft.sequence(node.operation.name, width)
        if id(node) not in self._names:
            name = f"before.{len(self._before)}"
            self._before[name] = node
            self._names[id(node)] = self.draft.sequence(name, width)
        return str(self._names[id(node)])

    def names(self, nodes: list[Node]) -> list[str] | None:
        """Return the names of all of these; None where one has none."""
        found = [self.name(node) for node in nodes]
        return [each for each in found if each is not None] if None not in found else None

    def step(self, node: Node, op: str, inputs: list[str], **more: Any) -> str:
        """Add a step for a node."""
        name = self.draft.step(op, inputs, **more)
        self._of_step[name] = node
        return name

    def _named(self, node: Node) -> str | None:
        if node.stage == "constant":
            return self.draft.constant(node, 0)
        if isinstance(node.operation, Input):
            given = self.draft.row if node.shared else self.draft.candidate
            return given(node.operation.name, node)
        lowered = None if node.dtype != "float32" or node.shared else self._lowered(node)
        if lowered is None and self._is_small(node):
            name = f"before.{len(self._before)}"
            self._before[name] = node
            given = self.draft.row if node.stage == "request" else self.draft.candidate
            return given(name, node)
        return lowered

    def _is_small(self, node: Node) -> bool:
        """Return whether all that a value is made of is a small part of what a candidate costs."""
        return sum(each.flops for each in ordered([node]) if each.stage == "pair") <= SMALL_SHARE * self.flops

    def _lowered(self, node: Node) -> str | None:
        pooled = self.attentions.lower(self, node) or fields.field_attention(self, node)
        if pooled is not None:
            return pooled
        match node.operation:
            case Reshape() | Cast():
                return self._same(node)
            case Expand() if math.prod(node.shape) == math.prod(node.inputs[0].shape):
                return self.name(node.inputs[0])
            case Permute() | Choose() | Expand():
                return fields.moved(self, node)
            case Linear() if math.prod(node.shape[:-1]) == 1:
                return self._linear([node], [], node)
            case Linear():
                weights = [self.graph.builder.value(node.inputs[1])] * math.prod(node.shape[:-1])
                bias = self.graph.builder.value(node.inputs[2]) if len(node.inputs) > 2 else None
                return self._stacked(node, weights, bias)
            case Concat(dim) if math.prod(node.shape[:dim]) == 1:
                return self._joined(node)
            case Concat() as operation:
                return fields.joined(self, node, operation)
            case Stack():
                return self._joined(node)
            case Slice():
                return self._slice(node, node.operation)
            case Softmax(-1):
                return self._of_one(node, "softmax", group=node.shape[-1])
            case LayerNorm(epsilon) if math.prod(node.shape[:-1]) == 1:
                factor, shift = (self.draft.weight(self.graph.builder.value(each)) for each in node.inputs[1:])
                return self._of_one(node, "layer_norm", weight=factor, bias=shift, eps=epsilon)
            case Reduce():
                return self._reduce(node, node.operation)
            case Product():
                return self._product(node)
            case Pointwise():
                return self._pointwise(node, node.operation)
            case Prelu() | Dice():
                return self._function(node)
        return None

    def _same(self, node: Node) -> str | None:
        given = node.inputs[0]
        return self.name(given) if given.dtype == node.dtype == "float32" else None

    def _joined(self, node: Node) -> str | None:
        inputs = self.names(list(node.inputs))
        return None if inputs is None else self.step(node, "concat", inputs)

    def _of_one(self, node: Node, op: str, **more: Any) -> str | None:
        given = self.name(node.inputs[0])
        return None if given is None else self.step(node, op, [given], **more)

    def _slice(self, node: Node, operation: Slice) -> str | None:
        given = node.inputs[0]
        name, rows = self.name(given), math.prod(given.shape[: operation.dim])
        if name is None:
            return None
        if operation.step != 1 or rows > _MOST_SLICES:
            return fields.moved(self, node)
        inner = math.prod(given.shape[operation.dim :][1:])
        parts = [
            self.step(node, "slice", [name], start=first + operation.start * inner, stop=first + operation.stop * inner)
            for first in range(0, math.prod(given.shape), given.shape[operation.dim] * inner)
        ]
        return parts[0] if len(parts) == 1 else self.step(node, "concat", parts)

    def _linear(self, layers: list[Node], added: list[Node], node: Node, **scaled: str) -> str | None:
        """Return the step of a sum of linear layers and other terms: one layer over all that they read, if anything.

        ``scaled`` are the names that the sum is multiplied with and what is then added.
        """
        inputs: list[Node] = []
        for layer in layers:
            given = layer.inputs[0]
            if math.prod(given.shape[:-1]) != 1:
                return None
            inputs += _parts(given)
        names, terms = self.names(inputs), self.names(added)
        if names is None or terms is None:
            return None
        value = self.graph.builder.value
        biases = [value(layer.inputs[2]) for layer in layers if len(layer.inputs) > 2]
        width = math.prod(node.shape[-1:])
        weights = [torch.empty(width, 0), *(value(layer.inputs[1]) for layer in layers)]
        more: Step = {"weight": self.draft.weight(torch.cat(weights, dim=1)), **scaled}
        if biases:
            more["bias"] = self.draft.weight(torch.stack(biases).sum(dim=0))
        if terms:
            more["add"] = terms
        return self.step(node, "linear", names, **more)

    def _stacked(self, node: Node, weights: list[Tensor], bias: Tensor | None = None) -> str | None:
        """Return a linear layer for each of the rows that a value stacks, end to end."""
        name, width = self.name(node.inputs[0]), node.inputs[0].shape[-1]
        if name is None or not 1 < len(weights) <= MOST_ROWS:
            return None
        held = {id(weight): self.draft.weight(weight) for weight in {id(each): each for each in weights}.values()}
        more = {} if bias is None else {"bias": self.draft.weight(bias)}
        parts = []
        for place, weight in enumerate(weights):
            row = self.step(node, "slice", [name], start=place * width, stop=(place + 1) * width)
            parts.append(self.step(node, "linear", [row], weight=held[id(weight)], **more))
        return self.step(node, "concat", parts)

    def _pointwise(self, node: Node, operation: Pointwise) -> str | None:
        if binary(node, "add.Tensor"):
            fused = self._crossed(node) or self._sum(node)
            if fused is not None:
                return fused
        if any(not isinstance(each, Ref) for each in operation.arguments) or len(operation.arguments) == 1:
            return self._function(node)
        tensors = [each for each in operation.arguments if isinstance(each, Ref)]
        if len(tensors) == 2 and len(node.inputs) == 2 and operation.target in _BINARY:
            return self._binary(node, _BINARY[operation.target])
        if operation.target == "mul.Tensor" and len(tensors) == 2 and len(node.inputs) == 1:
            return self._of_one(node, "square")
        return None

    def _sum(self, node: Node, total: Node | None = None, **more: str) -> str | None:
        """Return a sum as one step, with the linear layers in it; of another node's ``total``, what is made of it."""
        terms = self._terms(total or node, root=True)
        layers = [each for each in terms if isinstance(each.operation, Linear) and self._is_single(each)]
        width = node.shape[-1:]
        if any(math.prod(each.shape) != math.prod(width) for each in terms):
            return None
        return self._linear(layers, [each for each in terms if each not in layers], node, **more)

    def _crossed(self, node: Node) -> str | None:
        """Return factor · total + after as the step of the total: a cross layer (Wang et al., DCN V2, 2021), say."""
        pair = binary(node, "add.Tensor")
        assert pair is not None
        for product, after in (pair, pair[::-1]):
            product = self._through(product)
            factors = binary(product, "mul.Tensor") if self._is_single(product) else None
            for total, factor in (factors, factors[::-1]) if factors else ():
                alike = all(math.prod(each.shape) == math.prod(node.shape[-1:]) for each in (total, factor, after))
                total = self._through(total)
                if not alike or not self._is_single(total) or not _adds_up(total):
                    continue
                times, plus = self.name(factor), self.name(after)
                if times is not None and plus is not None:
                    return self._sum(node, total, times=times, plus=plus)
        return None

    def _through(self, node: Node) -> Node:
        """Return what reshapes that nobody else reads are of."""
        while isinstance(node.operation, Reshape) and self._is_single(node):
            node = node.inputs[0]
        return node

    def _terms(self, node: Node, root: bool = False) -> list[Node]:
        """Return what a sum adds, seen through reshapes; a sum that others read, too, is one term."""
        node = self._through(node)
        found = binary(node, "add.Tensor")
        if found is None or not (root or self._is_single(node)):
            return [node]
        return [*self._terms(found[0]), *self._terms(found[1])]

    def _is_single(self, node: Node) -> bool:
        return self.uses[id(node)] <= 1 and node.stage == "pair"

    def _function(self, node: Node) -> str | None:
        activation = activation_of(node, self.draft, node.shape)
        return None if activation is None else self._activated(node, activation)

    def _activated(self, node: Node, activation: Step) -> str | None:
        given = node.inputs[0]
        name = self.name(given)
        if name is None:
            return None
        made = self.draft.steps[-1] if self.draft.steps else {}
        fits = made.get("out") == name and made["op"] == "linear" and not {"activation", "times"} & set(made)
        if fits and activation["op"] in _FUSED and self._reads_alone(given):
            made["activation"] = activation
            self._of_step[name] = node
            return name
        return self.step(node, **activation, inputs=[name])

    def _reads_alone(self, node: Node) -> bool:
        """Return whether a value has one reader, also through reshapes."""
        return self._is_single(self._through(node))

    def _binary(self, node: Node, op: str) -> str | None:
        inputs = [self._repeated(each, node) for each in node.inputs]
        found = [each for each in inputs if each is not None]
        return self.step(node, op, found) if len(found) == len(inputs) else None

    def _repeated(self, node: Node, like: Node) -> str | None:
        """Return the name of a value as an operand beside another: one number, as it is, or end to end as often."""
        if math.prod(node.shape) == 1 or _core(node) == _core(like):
            return self.name(node)
        times = math.prod(like.shape) // math.prod(node.shape)
        ends_alike = _core(node) == like.shape[len(like.shape) - len(_core(node)) :]
        if not ends_alike or times > _MOST_SLICES:
            return fields.repeated(self, node, like)
        name = self.name(node)
        return None if name is None else self.step(like, "concat", [name] * times)

    def _reduce(self, node: Node, operation: Reduce) -> str | None:
        kind, given = _REDUCTIONS.get(operation.target), node.inputs[0]
        if kind is None:
            return None
        rank = len(given.shape)
        reduced = {dim + rank for dim in operation.dims}
        wide = [place for place in range(rank) if given.shape[place] > 1]
        gone = [place for place in wide if place in reduced]
        if gone == wide:
            pair = binary(given, "mul.Tensor") if kind == "sum" and self._is_single(given) else None
            if pair and _core(pair[0]) == _core(pair[1]):
                inputs = self.names(list(pair))
                return None if inputs is None else self.step(node, "dot", inputs)
            return self._of_one(node, "reduce", kind=kind)
        if gone == wide[len(wide) - len(gone) :]:
            group = math.prod(given.shape[place] for place in gone)
            return self._of_one(node, "reduce", kind=kind, group=group)
        if gone == wide[: len(gone)]:
            mixed = self._weighted(node, given, gone[0] if len(gone) == 1 and kind == "sum" else None)
            group = math.prod(given.shape[place] for place in wide if place not in gone)
            return mixed or self._of_one(node, "reduce", kind=kind, group=group, across=True)
        return None

    def _weighted(self, node: Node, given: Node, dim: int | None) -> str | None:
        """Return Σ gate · expert as a weighted sum."""
        pair = binary(given, "mul.Tensor") if dim is not None and self._is_single(given) else None
        if pair is None or dim is None:
            return None
        for gates, experts in (pair, pair[::-1]):
            count = given.shape[dim]
            gated = math.prod(gates.shape) == count and gates.shape[dim - len(given.shape) :][:1] == (count,)
            if gated and math.prod(experts.shape) == math.prod(given.shape):
                inputs = self.names([gates, experts])
                return None if inputs is None else self.step(node, "weighted_sum", inputs)
        return None

    def _product(self, node: Node) -> str | None:
        first, second = node.inputs
        if second.stage == "constant" and len(first.shape) >= 2:
            stacked = self.graph.builder.value(second).expand(*first.shape[:-2], *second.shape[-2:])
            matrices = stacked.reshape(-1, *second.shape[-2:]).mT.unbind(0)
            return self._stacked(node, [each for each in matrices for _ in range(first.shape[-2])])
        rows, inner, columns = first.shape[-2], first.shape[-1], second.shape[-1]
        if columns == 1 and math.prod(first.shape) == rows * inner and first.operation == Concat(-1):
            return self._mixed(node, second, first) or fields.product(self, node)
        if rows != 1 or math.prod(first.shape) != inner or math.prod(second.shape) != inner * columns:
            return fields.product(self, node)
        inputs = self.names([first, second])
        if inputs is None:
            return None
        return self.step(node, "dot" if columns == 1 else "weighted_sum", inputs)

    def _mixed(self, node: Node, gates: Node, columns: Node) -> str | None:
        """Return the step of experts that stand side by side as columns, times gates."""
        if any(each.shape[-1] != 1 for each in columns.inputs):
            return None
        inputs = self.names([gates, *columns.inputs])
        return None if inputs is None else self.step(node, "weighted_sum", inputs)


def answer_name(name: str, shape: tuple[int, ...]) -> str:
    """Return the name under which an answer of the engine stands in the graph that goes on from it."""
    return f"native.{name}.{'x'.join(map(str, shape))}"


def _adds_up(node: Node) -> bool:
    """Return whether a value is a sum or a linear layer."""
    return isinstance(node.operation, Linear) or binary(node, "add.Tensor") is not None


def _parts(node: Node) -> list[Node]:
    """Return what a concatenation joins, or the value itself."""
    while isinstance(node.operation, Reshape):
        node = node.inputs[0]
    if isinstance(node.operation, Concat) and math.prod(node.shape[: node.operation.dim]) == 1:
        return [each for part in node.inputs for each in _parts(part)] if node.dtype == "float32" else [node]
    return [node]


def _core(node: Node) -> tuple[int, ...]:
    """Return a shape without leading dimensions of one element."""
    shape = list(node.shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return tuple(shape)


def _needed(steps: list[Step], outputs: list[str]) -> tuple[list[Step], set[str]]:
    """Return the steps that the outputs need, in order, and the names of all that is used."""
    used = set(outputs)
    kept: list[Step] = []
    for step in reversed(steps):
        if step["out"] in used:
            kept.append(step)
            used |= _mentioned([step])
    return kept[::-1], used


def _mentioned(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = list(value.values())
    return {name for each in value for name in _mentioned(each)} if isinstance(value, list) else set()
