"""What stages cost: operations and bytes from shapes, seconds from rates that are measured once."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bowerbird.compiler.graph import Node, RowGraph, ordered
from bowerbird.compiler.operations import Constant, Input, Linear, Product
from bowerbird.compiler.stage import Stage


@dataclass(frozen=True)
class Rates:
    """What one core of this machine does: operations and bytes per second, and seconds per row from far memory.

    The defaults are those of a modest server core.
    """

    product: float = 5e10
    """Operations of matrix products."""
    other: float = 2e9
    """Operations of everything else."""
    stream: float = 8e9
    """Bytes in order."""
    row: float = 1.5e-7
    """Seconds until the first byte of a row at a random place."""


@dataclass(frozen=True)
class StageCost:
    """What one evaluation of a stage costs: operations of products and of all else, bytes of weights and of values."""

    stage: Stage
    products: int
    others: int
    weights: int
    values: int

    @property
    def flops(self) -> int:
        """All operations."""
        return self.products + self.others


def stage_costs(graph: RowGraph) -> dict[Stage, StageCost]:
    """Return the cost of each stage of a graph: for one request, one item, one candidate."""
    nodes = graph.nodes()
    return {
        stage: _cost(stage, [node for node in nodes if node.stage == stage]) for stage in ("request", "item", "pair")
    }


def written_cost(graph: RowGraph) -> StageCost:
    """Return the cost of a candidate where nothing is shared: all of a graph for each."""
    return _cost("pair", [node for node in graph.nodes() if node.stage != "constant"])


def _cost(stage: Stage, nodes: list[Node]) -> StageCost:
    weights = {id(each): each for node in nodes for each in node.inputs if isinstance(each.operation, Constant)}
    return StageCost(
        stage=stage,
        products=sum(node.flops for node in nodes if _is_product(node)),
        others=sum(node.flops for node in nodes if not _is_product(node)),
        weights=sum(each.bytes for each in weights.values()),
        values=sum(node.bytes for node in nodes if node.flops),
    )


def _is_product(node: Node) -> bool:
    return isinstance(node.operation, Linear | Product)


def seconds(nodes: list[Node], rates: Rates) -> float:
    """Return the seconds that one row of these nodes takes."""
    products = sum(node.flops for node in nodes if _is_product(node))
    others = sum(node.flops for node in nodes if not _is_product(node))
    return products / rates.product + others / rates.other


def worth_storing(rates: Rates) -> Callable[[Node], bool]:
    """Return whether a value of an item is fetched sooner than it is computed from the item's features.

    A stored row costs its bytes and a step to a random place; what it replaces is all that it is made of, and
    fetching that, each feature from a place of its own.
    """

    def decide(node: Node) -> bool:
        made_of = ordered([node], lambda each: isinstance(each.operation, Input))
        compute = seconds([each for each in made_of if each.stage == "item"], rates)
        features = [each.bytes for each in made_of if isinstance(each.operation, Input)]
        fetched = len(features) * rates.row + sum(features) / rates.stream
        return rates.row + node.bytes / rates.stream < compute + fetched

    return decide


def measure_rates() -> Rates:
    """Measure this machine's rates on one thread; about a fifth of a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second = torch.randn(256, 512), torch.randn(512, 512)
        values = torch.randn(1 << 16)
        far, near = torch.randn(1 << 16, 256), torch.empty(1 << 16, 256)
        order = torch.randperm(len(far))[:4096]
        stream = 2 * far.numel() * 4 / _median_seconds(lambda: near.copy_(far))
        gather = _median_seconds(lambda: far.index_select(0, order)) / len(order)
        return Rates(
            product=2 * math.prod(first.shape) * 512 / _median_seconds(lambda: first @ second),
            other=values.numel() / _median_seconds(lambda: torch.exp(values)),
            stream=stream,
            row=max(gather - far.shape[1] * 8 / stream, 1e-8),
        )
    finally:
        torch.set_num_threads(threads)


def _median_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    run()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
