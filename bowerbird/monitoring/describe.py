"""A feature in words: its operation, the events behind it, their window and keys."""

from __future__ import annotations

from bowerbird.declare.durations import MICROSECONDS
from bowerbird.plan.spec import Aggregate, Node, Path, Plan

_UNITS = ("d", "h", "m", "s", "ms", "us")


def duration_text(length: int) -> str:
    """Return microseconds as the user would write them: ``"7d"``, ``"90s"``."""
    for unit in _UNITS:
        if length % MICROSECONDS[unit] == 0:
            return f"{length // MICROSECONDS[unit]}{unit}"
    raise AssertionError(length)


def path_text(plan: Plan, path: Path) -> str:
    """Return a path's end as its declaration names it: ``user``, ``items.brand``."""
    return plan.slots[path.hops[-1].slot if path.hops else path.slot].name


def events_text(plan: Plan, aggregate: Aggregate) -> str:
    """Return the events that feed an aggregate, ``click + order (filtered)``."""
    names = [f"{plan.types[feed.type].name}{' (filtered)' if feed.tests else ''}" for feed in aggregate.feeds]
    return " + ".join(names)


def window_text(aggregate: Aggregate) -> str:
    """Return how far back an aggregate reaches."""
    if aggregate.kind == "tiles":
        return f"last {duration_text(aggregate.window)}"
    if aggregate.kind == "decayed":
        return f"half-life {duration_text(aggregate.half_life)}"
    if aggregate.kind == "sequence":
        return f"last {aggregate.length}{' distinct' if aggregate.distinct else ''}"
    text = f"of {aggregate.length} kept" if aggregate.kind == "top" else "all time"
    return f"{text}, forgotten after {duration_text(aggregate.ttl)}" if aggregate.ttl else text


def aggregate_text(plan: Plan, aggregate: Aggregate) -> str:
    """Return an aggregate's events, keys and reach in one line."""
    value = next((f" of {path_text(plan, feed.value)}" for feed in aggregate.feeds if feed.value is not None), "")
    by = plan.families[aggregate.family].name
    return f"{events_text(plan, aggregate)}{value} by {by}, {window_text(aggregate)}"


def node_title(plan: Plan, node: Node) -> str:
    """Return what one operation does, without its inputs."""
    if node.path is not None:
        return path_text(plan, node.path)
    if node.aggregate >= 0:
        aggregate = plan.aggregates[node.aggregate]
        what = f"{node.op} {node.what}".strip() if node.op != "read" else node.what
        return f"{what} of {aggregate_text(plan, aggregate)}"
    if node.op == "match":
        return f"match {node.what}"
    if node.op == "function" and node.function is not None:
        return f"function {node.function.path}"
    if node.op == "rate":
        prior, strength = node.numbers
        return f"rate (prior {prior:g}, strength {strength:g})"
    return node.op


def node_text(plan: Plan, index: int) -> str:
    """Return an operation with its inputs, as one line."""
    node = plan.nodes[index]
    if node.path is not None or node.aggregate >= 0 or not node.inputs:
        return node_title(plan, node)
    inputs = [node_text(plan, each) for each in node.inputs]
    if node.op == "rate":
        prior, strength = node.numbers
        return f"rate of [{inputs[0]}] to [{inputs[1]}], prior {prior:g}, strength {strength:g}"
    return f"{node_title(plan, node)} of [{'] and ['.join(inputs)}]"


def feature_text(plan: Plan, name: str) -> str:
    """Return a feature's description; raises KeyError for a name that is no feature."""
    return node_text(plan, plan.feature(name).node)
