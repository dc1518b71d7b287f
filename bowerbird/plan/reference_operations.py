"""The twin's operations on what has been read: matches, calendars, arithmetic."""

from __future__ import annotations

import math

import numpy as np

from bowerbird.kernels.keys import key_integer
from bowerbird.plan.reference_states import SECOND, Counted, Entry, seconds_between
from bowerbird.plan.spec import MISSING_KEY, Node

_HOUR = 3600 * SECOND


def match(node: Node, inputs: list[object], time: int) -> float:
    """Return how a value stands in a sequence's events, or in the values of a top."""
    source, wanted = inputs
    assert isinstance(source, list)
    weights = [(_matched(each, node.field), each) for each in source]
    found = [(count, each) for (key, count), each in weights if key == wanted and wanted != MISSING_KEY]
    count = sum(count for count, _ in found)
    if node.what == "count":
        return float(count)
    if node.what == "fraction":
        total = sum(count for (_, count), _ in weights)
        return float(count) / float(total) if total else math.nan
    return seconds_between(max(each.time for _, each in found), time) if found else math.nan


def _matched(each: Entry | Counted, field: int) -> tuple[int, int]:
    """Return the value that may match, and how often it stands there."""
    return (each.key, each.count) if isinstance(each, Counted) else (each.fields[field], 1)


def calendar(node: Node, time: int) -> int:
    """Return the key of an hour or a weekday in the node's time zone."""
    at = max(0, int(np.searchsorted(node.instants, time, side="right")) - 1)
    hours = (time + node.offsets[at]) // _HOUR
    return key_integer(hours % 24 if node.op == "hour" else (hours // 24 + 3) % 7)


def arithmetic(node: Node, time: int, inputs: list[float]) -> float | int:
    """Return a function of numbers; ``bucketise`` returns a key."""
    value = inputs[0]
    if node.op == "rate":
        prior, strength = node.numbers
        below = inputs[1] + strength
        return (value + prior * strength) / below if below > 0 else math.nan
    if node.op == "ratio":
        return math.nan if inputs[1] == 0 else value / inputs[1]
    if node.op == "difference":
        return value - inputs[1]
    if node.op == "log1p":
        return -math.log1p(-value) if value < 0 else math.log1p(value)
    if node.op == "clip":
        low, high = node.numbers
        return value if math.isnan(value) else min(max(value, low), high)
    if node.op == "affine":
        return (value - node.numbers[0]) / node.numbers[1]
    if node.op == "age":
        return time / SECOND - value
    assert node.op == "bucketise", node.op
    return MISSING_KEY if math.isnan(value) else key_integer(int(np.searchsorted(node.numbers, value, side="right")))
