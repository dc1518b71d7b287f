"""An explanation as a person reads it."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from bowerbird.monitoring.explanation import (
    EventRow,
    Explanation,
    FeatureExplanation,
    NodeExplanation,
    StateExplanation,
)


def explanation_title(explanation: Explanation) -> str:
    """Return what was read, where and when, and whether every value follows from its events."""
    verdict = "agree" if explanation.agrees else "DO NOT AGREE"
    return (
        f"{explanation.identity}: user {explanation.user}, item {explanation.item}\n"
        f"Read at {explanation.read_time}, after {explanation.read_lsn:,} of {explanation.log_size:,} log records.\n"
        f"Replay and the events behind {verdict} ({explanation.seconds:.1f} s)."
    )


def explanation_table(explanation: Explanation) -> Table:
    """Return every feature's value, a line each."""
    table = Table("feature", "value", "records behind", "agrees", "what it is")
    for feature in explanation.features:
        cells = [feature.feature, _short(feature.value), f"{feature.records:,}", _verdict(feature), feature.description]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def feature_tree(feature: FeatureExplanation) -> Tree:
    """Return a feature's value with everything that it was computed from."""
    top = Tree(Text(f"{feature.feature} = {_short(feature.value)}  ({feature.description})", style="bold"))
    if feature.logged is not None:
        top.add(Text(f"as served: {_short(feature.logged)}"))
    if not feature.agrees:
        top.add(Text(f"the events give {_short(feature.from_events)}", style="red"))
    _add(top, feature.tree)
    return top


def _add(parent: Tree, node: NodeExplanation) -> None:
    differs = "" if node.agrees else f"  BUT FROM THE EVENTS {_short(node.from_events)}"
    branch = parent.add(Text(f"{node.operation} = {_short(node.value)}{differs}"))
    if node.state is not None:
        _add_state(branch, node.state)
    for part in node.inputs:
        _add(branch, part)


def _add_state(branch: Tree, state: StateExplanation) -> None:
    keys = ", ".join(f"{name} {value}" for name, value in state.keys.items()) or "all keys together"
    branch.add(Text(f"key: {keys}"))
    branch.add(Text(f"{state.counted:,} events count"))
    for reason, count in state.left_out.items():
        branch.add(Text(f"{count:,} do not: {reason}", style="dim"))
    if len(state.tiles) > 1:
        tiles = branch.add(Text("by tile"))
        for tile in state.tiles:
            total = f", sum {tile.sum:g}" if tile.sum else ""
            tiles.add(Text(f"from {_moment(tile.start)}: {tile.count:,}{total}"))
    if state.events:
        older = state.counted - len(state.events)
        events = branch.add(Text(f"events, oldest first{f' ({older:,} older ones not shown)' if older else ''}"))
        for event in state.events:
            events.add(Text(_event(event)))


def _event(event: EventRow) -> str:
    values = ", ".join(f"{name} {value}" for name, value in (event.values | event.fields).items())
    weight = "" if event.weight is None else f", weight {event.weight:.4f}"
    retraction = " taken back" if event.retraction else ""
    available = "" if event.available in ("", event.time) else f", known {_moment(event.available)}"
    return f"LSN {event.lsn:,} {_moment(event.time)}{available} {event.type}{retraction} {event.id}{weight} ({values})"


def _moment(text: str) -> str:
    """Return an ISO time in UTC without its offset and empty fractions."""
    return text.removesuffix("+00:00").removesuffix(".000000").replace("T", " ")


def _verdict(feature: FeatureExplanation) -> str:
    return "yes" if feature.agrees else f"NO: {_short(feature.from_events)}"


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return "[" + "; ".join(_entry(entry) for entry in value) + "]"
        return "[" + ", ".join(_short(each) for each in value) + "]"
    return str(value)


def _entry(entry: dict[str, Any]) -> str:
    return ", ".join(_short(value) for name, value in entry.items() if name != "age") + f" {_short(entry['age'])} s ago"
