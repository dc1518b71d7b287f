"""A graph whose matrix products are computed in bfloat16: half the bytes, and twice the operations or more."""

from __future__ import annotations

from typing import Literal

from bowerbird.compiler.graph import Builder, Node, RowGraph, rebuilt
from bowerbird.compiler.operations import Cast, Linear, Product

Precision = Literal["fp32", "bf16", "int8"]


def in_bfloat16(graph: RowGraph) -> RowGraph:
    """Return the graph with inputs and weights of its products rounded to bfloat16, all else in float32."""
    new = rebuilt(graph.builder, graph.outputs.values(), lambda node: _rounded(graph.builder, node))
    return RowGraph(graph.builder, {name: new[id(node)] for name, node in graph.outputs.items()})


def _rounded(build: Builder, node: Node) -> Node:
    if not isinstance(node.operation, Linear | Product) or node.dtype != "float32" or node.stage == "constant":
        return node
    inputs = [build.add(Cast("bfloat16"), [each], node.where) for each in node.inputs]
    return build.add(Cast("float32"), [build.add(node.operation, inputs, node.where)], node.where)
