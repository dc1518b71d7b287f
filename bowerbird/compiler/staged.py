"""A row graph cut by stages: what is computed per request, per item and per candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bowerbird.compiler.graph import Builder, Node, RowGraph, ordered
from bowerbird.compiler.operations import Input


@dataclass(frozen=True)
class StagedProgram:
    """Three graphs: ``request`` and ``item`` leave values behind that ``pair`` reads by name.

    Values of stage *request* have one row; those of stage *item* one per item, which a server keeps as long as the
    item's features and the model stand.
    """

    request: RowGraph
    item: RowGraph
    pair: RowGraph

    @property
    def builder(self) -> Builder:
        """What holds the constants of all three."""
        return self.pair.builder


def staged(graph: RowGraph, stored: Callable[[Node], bool] = lambda node: True) -> StagedProgram:
    """Cut a graph where stages meet; ``stored`` says of an item's value whether it is worth keeping.

    What is not kept is computed again for each candidate, from values that are.
    """
    builder = graph.builder
    left: dict[int, Node] = {}
    names: dict[int, str] = {}

    def is_left(node: Node) -> bool:
        if node.stage == "request":
            return True
        return node.stage == "item" and (isinstance(node.operation, Input) or stored(node))

    pair = ordered(graph.outputs.values(), is_left)
    new: dict[int, Node] = {}
    for node in pair:
        if is_left(node):
            name = node.operation.name if isinstance(node.operation, Input) else f"{node.stage}.{len(names)}"
            names[id(node)] = name
            new[id(node)] = builder.input(name, node.shape, node.dtype, node.stage)
            left[id(node)] = node
        else:
            new[id(node)] = builder.add(node.operation, [new[id(item)] for item in node.inputs], node.where)
    return StagedProgram(
        request=_part(graph, left, names, "request"),
        item=_part(graph, left, names, "item"),
        pair=RowGraph(builder, {name: new[id(node)] for name, node in graph.outputs.items()}),
    )


def _part(graph: RowGraph, left: Mapping[int, Node], names: Mapping[int, str], stage: str) -> RowGraph:
    outputs = {names[key]: node for key, node in left.items() if node.stage == stage}
    return RowGraph(graph.builder, outputs)
