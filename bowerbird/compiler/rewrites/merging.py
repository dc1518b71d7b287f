"""Linear layers that share their input, as one."""

from __future__ import annotations

from collections import Counter

from bowerbird.compiler.graph import Builder, Node, RowGraph, rebuilt
from bowerbird.compiler.operations import Concat, Linear, Slice
from bowerbird.compiler.rewrite import repeated

Key = tuple[int, ...]
Groups = dict[Key, list[Node]]
"""By a linear layer's weight and bias (the nodes' ids): all layers that read what it reads."""


def merged(graph: RowGraph) -> RowGraph:
    """Return the graph with V x and W x as parts of [V; W] x, where x is the request's or the item's.

    One product then serves all experts, gates and heads, and an item keeps one value for them.
    """
    groups = _groups(graph)
    new = rebuilt(graph.builder, graph.outputs.values(), lambda node: _part(graph.builder, node, groups))
    return RowGraph(graph.builder, {name: new[id(node)] for name, node in graph.outputs.items()})


def _groups(graph: RowGraph) -> Groups:
    readers: dict[int, dict[Key, Node]] = {}
    uses: Counter[Key] = Counter()
    for node in graph.nodes():
        if isinstance(node.operation, Linear) and node.stage in ("request", "item"):
            readers.setdefault(id(node.inputs[0]), {})[_key(node)] = node
            uses[_key(node)] += 1
    alone = [{key: node for key, node in group.items() if uses[key] == 1} for group in readers.values()]
    return {key: list(group.values()) for group in alone for key in group if len(group) > 1}


def _key(node: Node) -> Key:
    return tuple(id(each) for each in node.inputs[1:])


def _part(build: Builder, node: Node, groups: Groups) -> Node:
    group = groups.get(_key(node)) if isinstance(node.operation, Linear) else None
    if group is None:
        return node
    weight = build.add(Concat(-2), [each.inputs[1] for each in group])
    biases = [each.inputs[2] if len(each.inputs) > 2 else _zeros(build, each) for each in group]
    whole = build.add(Linear(), [node.inputs[0], weight, build.add(Concat(-1), biases)])
    place = [_key(each) for each in group].index(_key(node))
    start = sum(each.shape[-1] for each in group[:place])
    return build.add(Slice(-1, start, start + node.shape[-1]), [whole], node.where)


def _zeros(build: Builder, node: Node) -> Node:
    return repeated(build, build.scalar(0.0), node.shape[-1:])
