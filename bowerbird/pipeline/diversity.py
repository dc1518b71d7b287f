"""Diversity by a cap: at most so many items with one value of an attribute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bowerbird.plan.spec import MISSING_KEY


def pick_diverse(
    order: Sequence[int], attributes: Sequence[int], limit: int, count: int
) -> tuple[list[int], list[int]]:
    """Return (picked, skipped) positions, going through ``order`` until ``count`` are picked.

    ``attributes`` holds the attribute's key by position; items without the attribute are not capped.
    """
    used: Counter[int] = Counter()
    picked: list[int] = []
    skipped: list[int] = []
    for position in order:
        if len(picked) == count:
            break
        attribute = attributes[position]
        if attribute != MISSING_KEY and used[attribute] >= limit:
            skipped.append(position)
            continue
        used[attribute] += 1
        picked.append(position)
    return picked, skipped
