"""A row graph as data: its nodes as MessagePack, its constants as arrays. Nothing of it is unpickled or evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from bowerbird.compiler.graph import Builder, Node, RowGraph
from bowerbird.compiler.operations import (
    Along,
    Cast,
    Choose,
    Concat,
    Constant,
    Expand,
    Input,
    LayerNorm,
    Linear,
    Permute,
    Pointwise,
    Product,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    TakeRows,
    overload,
)
from bowerbird.compiler.whole import Whole
from bowerbird.errors import CorruptionError

FORMAT = 1
Array = npt.NDArray[Any]
AnyOperation = (
    Along | Cast | Choose | Concat | Constant | Expand | Input | LayerNorm | Linear | Permute | Pointwise | Product
    | Reduce | Reshape | Slice | Softmax | TakeRows | Whole
)  # fmt: skip


class _Node(msgspec.Struct, frozen=True, array_like=True):
    """An operation on earlier nodes, by their numbers."""

    operation: AnyOperation
    inputs: tuple[int, ...]


class _Graph(msgspec.Struct, frozen=True):
    nodes: list[_Node]
    outputs: dict[str, int]
    format: int = FORMAT


def pack_graph(graph: RowGraph) -> tuple[bytes, dict[str, Array]]:
    """Return a graph's nodes as bytes and its constants by name; the user's files and lines are left out."""
    nodes = graph.nodes()
    place = {id(node): number for number, node in enumerate(nodes)}
    packed = [_Node(_known(node), tuple(place[id(item)] for item in node.inputs)) for node in nodes]
    names = [node.operation.name for node in nodes if isinstance(node.operation, Constant)]
    arrays = {name: graph.builder.arrays[name].numpy() for name in names}
    outputs = {name: place[id(node)] for name, node in graph.outputs.items()}
    return msgspec.msgpack.encode(_Graph(packed, outputs)), arrays


def _known(node: Node) -> AnyOperation:
    operation = node.operation
    assert isinstance(operation, AnyOperation)
    return operation


def unpack_graph(data: bytes, arrays: Mapping[str, Array]) -> RowGraph:
    """Return a packed graph; raises CorruptionError where it is not one of this version's."""
    build = Builder()
    nodes: list[Node] = []
    try:
        graph = msgspec.msgpack.decode(data, type=_Graph)
        if graph.format != FORMAT:
            raise ValueError(f"format {graph.format} is not {FORMAT}")
        for each in graph.nodes:
            match each.operation:
                case Constant(name):
                    nodes.append(build.constant(torch.from_numpy(np.array(arrays[name]))))
                case Input(name, shape, dtype, stage):
                    nodes.append(build.input(name, shape, dtype, stage))
                case operation:
                    _check_pure(operation)
                    nodes.append(build.add(operation, [nodes[number] for number in each.inputs]))
        return RowGraph(build, {name: nodes[number] for name, number in graph.outputs.items()})
    except (msgspec.MsgspecError, KeyError, IndexError, ValueError, RuntimeError, AttributeError) as error:
        raise CorruptionError(f"The row graph cannot be read: {error}", "Publish the version again.") from error


def _check_pure(operation: AnyOperation) -> None:
    """Refuse operators that write to what they are given, or reach beyond tensors."""
    steps = [step.target for step in operation.steps] if isinstance(operation, Whole) else []
    for target in [*steps, getattr(operation, "target", "")]:
        if target and (overload(target)._schema.is_mutable or target.startswith("from_file")):
            raise ValueError(f"the operator {target!r} is not pure")
