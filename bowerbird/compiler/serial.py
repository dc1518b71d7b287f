"""A row graph as data: its nodes as MessagePack, its constants as arrays. Nothing of it is unpickled or evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from bowerbird.compiler.graph import Builder, Node, RowGraph, ordered
from bowerbird.compiler.operations import (
    Along,
    Cast,
    Choose,
    Concat,
    Constant,
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
    TakeRows,
    overload,
)
from bowerbird.compiler.staged import StagedProgram
from bowerbird.compiler.whole import Whole
from bowerbird.errors import CorruptionError

FORMAT = 1
Array = npt.NDArray[Any]
AnyOperation = (
    Along | Cast | Choose | Concat | Constant | Dice | Expand | Input | LayerNorm | Linear | Permute | Pointwise | Prelu
    | Product | Reduce | Reshape | Slice | Softmax | Stack | TakeRows | Whole
)  # fmt: skip


class _Node(msgspec.Struct, frozen=True, array_like=True):
    """An operation on earlier nodes, by their numbers."""

    operation: AnyOperation
    inputs: tuple[int, ...]


class _Graph(msgspec.Struct, frozen=True):
    nodes: list[_Node]
    outputs: dict[str, int]
    format: int = FORMAT


class _Made(msgspec.Struct, frozen=True):
    """What has made a program."""

    compiler: str


class _Program(_Made, frozen=True):
    """The nodes of all three graphs, and the outputs of each."""

    nodes: list[_Node]
    request: dict[str, int]
    item: dict[str, int]
    pair: dict[str, int]


def pack_graph(graph: RowGraph) -> tuple[bytes, dict[str, Array]]:
    """Return a graph's nodes as bytes and its constants by name; the user's files and lines are left out."""
    nodes = graph.nodes()
    place = {id(node): number for number, node in enumerate(nodes)}
    outputs = {name: place[id(node)] for name, node in graph.outputs.items()}
    return msgspec.msgpack.encode(_Graph(_packed(nodes, place), outputs)), _constants(nodes, graph.builder)


def pack_program(program: StagedProgram, compiler: str) -> tuple[bytes, dict[str, Array]]:
    """Return a staged program as ``pack_graph`` does a graph; ``compiler`` says what has made it."""
    parts = {"request": program.request, "item": program.item, "pair": program.pair}
    nodes = ordered(node for graph in parts.values() for node in graph.outputs.values())
    place = {id(node): number for number, node in enumerate(nodes)}
    outputs = {part: {name: place[id(node)] for name, node in graph.outputs.items()} for part, graph in parts.items()}
    packed = _Program(compiler, _packed(nodes, place), **outputs)
    return msgspec.msgpack.encode(packed), _constants(nodes, program.builder)


def _packed(nodes: list[Node], place: Mapping[int, int]) -> list[_Node]:
    return [_Node(_known(node), tuple(place[id(item)] for item in node.inputs)) for node in nodes]


def _constants(nodes: list[Node], builder: Builder) -> dict[str, Array]:
    names = [node.operation.name for node in nodes if isinstance(node.operation, Constant)]
    return {name: builder.arrays[name].numpy() for name in names}


def _known(node: Node) -> AnyOperation:
    operation = node.operation
    assert isinstance(operation, AnyOperation)
    return operation


def unpack_graph(data: bytes, arrays: Mapping[str, Array]) -> RowGraph:
    """Return a packed graph; raises CorruptionError where it is not one of this version's."""
    with _reading("row graph"):
        graph = msgspec.msgpack.decode(data, type=_Graph)
        if graph.format != FORMAT:
            raise ValueError(f"format {graph.format} is not {FORMAT}")
        build = Builder()
        nodes = _unpacked(build, graph.nodes, arrays)
        return _part(build, nodes, graph.outputs)


def unpack_program(data: bytes, arrays: Mapping[str, Array], compiler: str) -> StagedProgram | None:
    """Return a packed program; None where another ``compiler`` has made it.

    Raises CorruptionError where it is no program.
    """
    with _reading("staged program"):
        if msgspec.msgpack.decode(data, type=_Made).compiler != compiler:
            return None
        program = msgspec.msgpack.decode(data, type=_Program)
        build = Builder()
        nodes = _unpacked(build, program.nodes, arrays)
        parts = [_part(build, nodes, outputs) for outputs in (program.request, program.item, program.pair)]
        return StagedProgram(*parts)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, KeyError, IndexError, ValueError, RuntimeError, AttributeError) as error:
        raise CorruptionError(f"The {what} cannot be read: {error}", "Publish the version again.") from error


def _part(build: Builder, nodes: list[Node], outputs: Mapping[str, int]) -> RowGraph:
    return RowGraph(build, {name: nodes[number] for name, number in outputs.items()})


def _unpacked(build: Builder, packed: list[_Node], arrays: Mapping[str, Array]) -> list[Node]:
    nodes: list[Node] = []
    for each in packed:
        match each.operation:
            case Constant(name):
                nodes.append(build.constant(torch.from_numpy(np.array(arrays[name]))))
            case Input(name, shape, dtype, stage):
                nodes.append(build.input(name, shape, dtype, stage))
            case operation:
                _check_pure(operation)
                nodes.append(build.add(operation, [nodes[number] for number in each.inputs]))
    return nodes


def _check_pure(operation: AnyOperation) -> None:
    """Refuse operators that write to what they are given, or reach beyond tensors."""
    steps = [step.target for step in operation.steps] if isinstance(operation, Whole) else []
    for target in [*steps, getattr(operation, "target", "")]:
        if target and (overload(target)._schema.is_mutable or target.startswith("from_file")):
            raise ValueError(f"the operator {target!r} is not pure")
