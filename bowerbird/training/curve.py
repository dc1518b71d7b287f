"""A run's learning curve: one JSON line per evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bowerbird.durable import write_atomically

CURVE_FILE = "curve.jsonl"


class Evaluation(msgspec.Struct, frozen=True):
    """One evaluation on validation: mean loss since the last one, metrics by task, and speed.

    ``value`` is what early stopping watches; ``rate`` is in samples per second.
    """

    step: int
    epoch: float
    loss: float
    value: float
    metrics: dict[str, dict[str, float]]
    learning_rate: float
    rate: float


class Curve:
    """Appends evaluations to ``curve.jsonl``; a resumed run first drops what came after its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self._file = folder / CURVE_FILE
        kept = [line for line in read_curve(folder) if line.step <= step]
        write_atomically(self._file, b"".join(msgspec.json.encode(line) + b"\n" for line in kept))

    def append(self, evaluation: Evaluation) -> None:
        """Add one line."""
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(evaluation) + b"\n")


def read_curve(folder: Path) -> list[Evaluation]:
    """Return a run's evaluations in order; a line cut short by a crash is ignored."""
    file = folder / CURVE_FILE
    if not file.is_file():
        return []
    lines: list[Any] = file.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=Evaluation) for line in lines]
