"""How much memory samples take once encoded, told from their files' footers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import Piece

_WORD = 4
_MARKS = 5 * 8
_OFFSETS = 2 * 8
_CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class EncodedSize:
    """Bytes of a plan's encoded samples: so many a row, and so many an event of each sequence."""

    def __init__(self, plan: Plan, tasks: int) -> None:
        columns = len(plan.of_kind("category")) + len(plan.of_kind("number")) + tasks + 1
        columns += sum(feature.width for feature in plan.of_kind("vector"))
        sequences = plan.of_kind("sequence")
        self.row = _WORD * columns + _MARKS + _OFFSETS * len(sequences)
        self.event = {feature.name: _WORD * (len(feature.fields) + 1) for feature in sequences}

    def of(self, piece: Piece) -> int:
        """Return the bytes of a piece, its events taken as the average of its row group."""
        events = sum(self.event[name] * count for name, count in piece.events.items())
        return piece.rows * self.row + events * piece.rows // piece.group_rows

    def total(self, pieces: Iterable[Piece]) -> int:
        """Return the bytes of several pieces."""
        return sum(self.of(piece) for piece in pieces)


def machine_memory() -> int:
    """Return the bytes that this process may use: the machine's, or its control group's where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _CONTROL_GROUP_LIMIT.is_file():
        limit = _CONTROL_GROUP_LIMIT.read_text().strip()
        return min(physical, int(limit)) if limit.isdigit() else physical
    return physical


def bytes_text(count: float) -> str:
    """Return a number of bytes as people write it, such as ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
