"""When a value can be computed: the order of the stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Stage = Literal["constant", "request", "item", "pair"]
"""*constant*: of weights alone; *request*: once per request; *item*: once per item and model; *pair*: per candidate."""

STAGES: tuple[Stage, ...] = ("constant", "request", "item", "pair")


def join(stages: Iterable[Stage]) -> Stage:
    """Return the earliest stage at which values of all these stages are there: constant < request, item < pair."""
    known = set(stages) - {"constant"}
    if not known:
        return "constant"
    return known.pop() if len(known) == 1 else "pair"
