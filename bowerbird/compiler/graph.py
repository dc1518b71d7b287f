"""A row graph: what one candidate's answer is made of, as nodes that are never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor

from bowerbird.compiler.operations import Constant, Expand, Input, Operation, Shape, dtype_named, name_of
from bowerbird.compiler.stage import Stage, join


@dataclass(frozen=True)
class Where:
    """The user's line that a value comes from."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "an unknown line"


@dataclass(frozen=True, eq=False)
class Node:
    """One value: its operation, the nodes that it is made of, and a row's shape and dtype.

    ``shared`` says that all rows have the same value, which stands in memory once.
    """

    operation: Operation
    inputs: tuple[Node, ...]
    shape: Shape
    dtype: str
    stage: Stage
    shared: bool
    where: Where

    @property
    def flops(self) -> int:
        """The floating-point operations of one row."""
        return self.operation.flops([item.shape for item in self.inputs], self.shape)

    @property
    def bytes(self) -> int:
        """The bytes of one row's value."""
        size = dtype_named(self.dtype).itemsize
        for each in self.shape:
            size *= each
        return size


class Builder:
    """Makes nodes; the same operation on the same inputs is one node, and what is made of constants is a constant."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}
        self.place = Where()
        """The line that new nodes come from, where nothing else is said."""
        self._made: dict[tuple[Any, ...], Node] = {}
        self._small: dict[tuple[str, Shape, bytes], str] = {}

    def input(self, name: str, shape: Shape, dtype: str, stage: Stage) -> Node:
        """Return the node of a given tensor."""
        operation = Input(name, shape, dtype, stage)
        return self._intern(
            operation, (), lambda: Node(operation, (), shape, dtype, stage, stage == "request", Where())
        )

    def constant(self, value: Tensor, where: Where | None = None) -> Node:
        """Return the node of a constant tensor; equal small ones are one node."""
        value = value.detach().contiguous()
        shape, dtype = tuple(value.shape), name_of(value.dtype)
        name = f"c{len(self.arrays)}"
        if value.numel() <= 64:
            name = self._small.setdefault((dtype, shape, value.reshape(-1).view(torch.uint8).numpy().tobytes()), name)
        self.arrays.setdefault(name, value)
        operation = Constant(name)
        return self._intern(
            operation, (), lambda: Node(operation, (), shape, dtype, "constant", True, where or Where())
        )

    def scalar(self, value: float) -> Node:
        """Return the node of a float32 constant of no dimension."""
        return self.constant(torch.tensor(value, dtype=torch.float32))

    def value(self, node: Node) -> Tensor:
        """Return a constant's tensor, of its own shape."""
        if isinstance(node.operation, Constant):
            return self.arrays[node.operation.name]
        inputs = [self.value(item).unsqueeze(0) for item in node.inputs]
        return node.operation.run(inputs, 1)[0]

    def add(self, operation: Operation, inputs: Sequence[Node], where: Where | None = None) -> Node:
        """Return the node of an operation on nodes."""
        given = tuple(inputs)
        place = where or self.place
        return self._intern(operation, given, lambda: self._make(operation, given, place))

    def _make(self, operation: Operation, inputs: tuple[Node, ...], where: Where) -> Node:
        stage: Stage = "pair" if operation.couples else join(item.stage for item in inputs)
        if stage == "constant" and not isinstance(operation, Expand):
            values = [self.value(item).unsqueeze(0) for item in inputs]
            return self.constant(operation.run(values, 1)[0], where)
        result = self._tried(operation, inputs)
        shared = operation.is_shared([item.shared for item in inputs])
        return Node(operation, inputs, tuple(result.shape[1:]), name_of(result.dtype), stage, shared, where)

    def _tried(self, operation: Operation, inputs: tuple[Node, ...]) -> Tensor:
        """Return a result of the right shape and dtype: the operation on one row of zeros and the constants.

        Tensors without values (``meta``) say the same, but most operators run on them in Python, which takes several
        times as long and a second of imports. They are for what zeros cannot be given to: a divisor, say.
        """
        try:
            return operation.run([self._zeros(item) for item in inputs], 1)
        except RuntimeError:
            given = [torch.empty(1, *item.shape, dtype=dtype_named(item.dtype), device="meta") for item in inputs]
            return operation.run(given, 1)

    def _zeros(self, node: Node) -> Tensor:
        if node.stage == "constant":
            return self.value(node).unsqueeze(0)
        return torch.zeros(1, *node.shape, dtype=dtype_named(node.dtype))

    def _intern(self, operation: Operation, inputs: tuple[Node, ...], make: Callable[[], Node]) -> Node:
        key = (type(operation), msgspec.msgpack.encode(operation), *(id(item) for item in inputs))
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True)
class RowGraph:
    """Named outputs over named inputs; ``builder`` holds the constants and makes further nodes."""

    builder: Builder
    outputs: Mapping[str, Node]

    def nodes(self) -> list[Node]:
        """Return all nodes, each after its inputs."""
        return ordered(self.outputs.values())


def ordered(roots: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False) -> list[Node]:
    """Return the nodes that ``roots`` are made of, each after its inputs; nodes where ``stop`` holds end the search."""
    done: dict[int, Node] = {}
    for root in roots:
        stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(() if stop(root) else root.inputs))]
        while stack:
            node, waiting = stack[-1]
            following = next((item for item in waiting if id(item) not in done), None)
            if following is None:
                stack.pop()
                done[id(node)] = node
            else:
                stack.append((following, iter(() if stop(following) else following.inputs)))
    return list(done.values())


def rebuilt(builder: Builder, roots: Iterable[Node], change: Callable[[Node], Node]) -> dict[int, Node]:
    """Return what every node under ``roots`` becomes, by its id, where ``change`` maps a node of changed inputs."""
    new: dict[int, Node] = {}
    for node in ordered(roots):
        inputs = tuple(new[id(item)] for item in node.inputs)
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        new[id(node)] = change(node if same else builder.add(node.operation, inputs, node.where))
    return new
