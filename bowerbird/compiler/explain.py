"""What the compiler did to a module, for people: costs of each stage, what was split, what was not and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bowerbird.compiler.cost import StageCost, stage_costs, written_cost
from bowerbird.compiler.graph import Node, RowGraph, Where, ordered
from bowerbird.compiler.operations import Along, Concat, Input, Linear, Pointwise, Product, Softmax
from bowerbird.compiler.stage import Stage
from bowerbird.compiler.staging import Compilation
from bowerbird.compiler.whole import Whole

_SHAPES = frozenset({"ConcatOfConcat", "OneStep", "PermuteOfConcat", "ReshapeOfConcat", "SliceOfConcat"})
_LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Split:
    """Laws that were applied to a value of the module's, and how often."""

    where: Where
    laws: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unsplit:
    """An operation that stays with each candidate: its share of a candidate's operations, and why it stays."""

    where: Where
    operation: str
    shape: tuple[int, ...]
    flops: int
    share: float
    reason: str


@dataclass(frozen=True)
class Left:
    """A value that one stage leaves for the candidates: its name, stage, bytes and line."""

    name: str
    stage: Stage
    bytes: int
    where: Where


@dataclass(frozen=True)
class Explanation:
    """Costs before and after, and the reasons."""

    written: StageCost
    stages: dict[Stage, StageCost]
    splits: list[Split]
    unsplit: list[Unsplit]
    left: list[Left]
    couplings: list[str]

    @property
    def gain(self) -> float:
        """How many times fewer operations a candidate takes than where nothing is shared."""
        return self.written.flops / max(self.stages["pair"].flops, 1)


def explain(compilation: Compilation) -> Explanation:
    """Return what was done to a module."""
    program = compilation.program
    return Explanation(
        written=written_cost(compilation.written),
        stages={
            "request": stage_costs(program.request)["request"],
            "item": stage_costs(program.item)["item"],
            "pair": stage_costs(program.pair)["pair"],
        },
        splits=_splits(compilation),
        unsplit=_unsplit(program.pair),
        left=[
            Left(name, node.stage, node.bytes, node.where)
            for graph in (program.request, program.item)
            for name, node in graph.outputs.items()
        ],
        couplings=[f"{each.where}: {each.target}: {each.reason}" for each in compilation.couplings],
    )


def _splits(compilation: Compilation) -> list[Split]:
    counts: dict[Where, Counter[str]] = {}
    for each in compilation.applied:
        if each.rewrite not in _SHAPES:
            counts.setdefault(each.where, Counter())[each.rewrite] += 1
    return [Split(where, tuple(laws.items())) for where, laws in counts.items()]


def _unsplit(pair: RowGraph) -> list[Unsplit]:
    nodes = [node for node in pair.nodes() if node.stage == "pair"]
    total = max(sum(node.flops for node in nodes), 1)
    heavy = sorted((node for node in nodes if node.flops / total >= _LEAST_SHARE), key=lambda node: -node.flops)
    return [
        Unsplit(node.where, _name(node), node.shape, node.flops, node.flops / total, _reason(node)) for node in heavy
    ]


def _reason(node: Node) -> str:
    """Return why a value is computed for each candidate."""
    if isinstance(node.operation, Whole):
        return "it needs all candidates at once"
    if not any(each.stage == "pair" for each in node.inputs):
        return "the request and the item meet here"
    given = next(each for each in node.inputs if each.stage == "pair")
    if isinstance(given.operation, Input):
        return f"it reads {given.operation.name!r}, which is the pair's"
    bend = next((each for each in reversed(ordered([given])) if each.stage == "pair" and _bends(each)), None)
    if bend is None:
        return "it reads what is the pair's own"
    return f"it follows {_name(bend)} of the pair ({bend.where})"


def _bends(node: Node) -> bool:
    """Return whether a value is no linear function of its inputs of the pair."""
    if isinstance(node.operation, Pointwise):
        linear = ("add.Tensor", "sub.Tensor", "neg.default")
        both = sum(each.stage != "constant" for each in node.inputs) > 1
        return node.operation.target not in linear and (node.operation.target != "mul.Tensor" or both)
    return isinstance(node.operation, Softmax | Along | Product | Whole)


def _name(node: Node) -> str:
    operation = node.operation
    if isinstance(operation, Pointwise | Along):
        return operation.target.partition(".")[0]
    return {Linear: "linear", Product: "product", Softmax: "softmax", Concat: "concatenation"}.get(
        type(operation), type(operation).__name__.lower()
    )
