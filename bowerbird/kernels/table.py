"""The NumPy twin of the native embedding table: the same rows and the same bits, one key at a time.

Memory budgets, snapshots and deltas are the native table's alone: they are about its memory and its files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.table_config import TableConfig
from bowerbird.kernels.table_filter import ReferenceFilter
from bowerbird.kernels.table_numbers import MASK, Floats, draw, mix_one, rounded, stream_of
from bowerbird.kernels.table_steps import StepNumbers, first_state, step

Keys: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int64]

_UNKNOWN_STREAM = 0x554E4B4E4F574E21


@dataclass
class _Row:
    weights: Floats
    state: list[Floats]
    time: int
    uses: int
    live: bool = field(default=True)


class ReferenceTable:
    """The semantics of ``bowerbird.embedding.table.Table`` over a dictionary; see there."""

    def __init__(self, config: TableConfig) -> None:
        self.config = config
        self.index: dict[int, int] = {}
        self._rows: list[_Row] = []
        self._free: list[int] = []
        self._filter = ReferenceFilter(config.admission, config.seed)
        self._calls = 0
        self._steps = 0
        self._new_row(0, 0, 0)
        self._new_row(_UNKNOWN_STREAM, 0, 0)

    def __len__(self) -> int:
        return len(self.index)

    def find(self, keys: Keys) -> Rows:
        """Return each key's row."""
        return np.array([0 if key == 0 else self.index.get(key, 1) for key in keys.tolist()], np.int64)

    def admit(self, keys: Keys, time: float | None = None, counts: npt.NDArray[np.integer[Any]] | None = None) -> Rows:
        """Return each key's row after counting its use and giving it a row where that is due."""
        self._calls += 1
        now = self._calls if time is None else int(time)
        uses = [1] * len(keys) if counts is None else counts.tolist()
        expiry = self.config.expiry
        known = self.find(keys)
        for row, times in zip(known.tolist(), uses, strict=True):
            if row > 1 and (expiry.max_age or expiry.rare_age or expiry.max_bytes):
                self._rows[row].time = max(self._rows[row].time, now)
                self._rows[row].uses += times
        for i, key in enumerate(keys.tolist()):
            if known[i] != 1:
                continue
            if key in self.index:
                self._rows[self.index[key]].uses += uses[i]
            elif self._filter.admits(key, uses[i], self._calls):
                self.index[key] = self._new_row(key, uses[i], now)
            known[i] = self.index.get(key, 1)
        return known

    def take(self, rows: Rows) -> Floats:
        """Return the vectors of rows."""
        return np.array([self._rows[row].weights for row in rows.tolist()], np.float32).reshape(
            -1, self.config.dimension
        )

    def pool(
        self, rows: Rows, offsets: Rows, mode: Literal["sum", "mean"] = "sum", weights: Floats | None = None
    ) -> Floats:
        """Return each bag's sum or mean."""
        out = np.zeros((len(offsets) - 1, self.config.dimension), np.float32)
        for bag, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            for i in range(begin, end):
                weight = np.float32(1) if weights is None else weights[i]
                out[bag] += weight * self._rows[int(rows[i])].weights
            if mode == "mean" and end > begin:
                out[bag] *= np.float32(1) / np.float32(end - begin)
        return out

    def update(self, rows: Rows, gradients: Floats, learning_rate: float | None = None) -> None:
        """Take one optimiser step; a row's gradients are summed in their order."""
        self._step(rows, list(gradients), learning_rate)

    def update_pooled(
        self,
        rows: Rows,
        offsets: Rows,
        gradients: Floats,
        mode: Literal["sum", "mean"] = "sum",
        weights: Floats | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Take one optimiser step with the gradients of what ``pool`` returned."""
        spread = []
        for bag, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            share = np.float32(1) / np.float32(end - begin) if mode == "mean" and end > begin else np.float32(1)
            spread += [(share if weights is None else share * weights[i]) * gradients[bag] for i in range(begin, end)]
        self._step(rows, spread, learning_rate)

    def put(self, keys: Keys, vectors: Floats) -> None:
        """Give keys these vectors and fresh state."""
        self._calls += 1
        for key, vector in zip(keys.tolist(), vectors, strict=True):
            if key and key in self.index:
                row = self._rows[self.index[key]]
                row.weights, row.state = self._stored(vector), first_state(self.config.optimiser, vector)
            elif key:
                self.index[key] = self._new_row(key, 1, self._calls, vector)

    def remove(self, keys: Keys) -> int:
        """Take away the rows of keys; return how many had one."""
        known = [key for key in dict.fromkeys(keys.tolist()) if key in self.index]
        for key in known:
            row = self.index.pop(key)
            self._rows[row].live = False
            self._free.append(row)
        return len(known)

    def expire(self, now: float) -> int:
        """Take away the rows that are due; which row numbers are used again first is the native table's affair."""
        expiry = self.config.expiry
        max_age, rare_age = math.ceil(expiry.max_age), math.ceil(expiry.rare_age)
        going = []
        for key, row in self.index.items():
            age = max(0, int(now) - self._rows[row].time)
            is_rare = self._rows[row].uses < expiry.rare_uses
            if (max_age and age > max_age) or (rare_age and age > rare_age and is_rare):
                going.append(key)
        return self.remove(np.array(going, np.uint64))

    def state(self, rows: Rows) -> Floats:
        """Return the optimiser's numbers of rows."""
        return np.array([np.concatenate([*self._rows[row].state, []]) for row in rows.tolist()], np.float32)

    def _stored(self, vector: Floats) -> Floats:
        return rounded(vector.astype(np.float32), self.config.precision, None).copy()

    def _new_row(self, key: int, uses: int, time: int, vector: Floats | None = None) -> int:
        if vector is None:
            vector = draw(stream_of(self.config.seed, key), self.config.initial_scale, self.config.dimension)
        made = _Row(self._stored(vector), first_state(self.config.optimiser, vector), time, uses)
        if self._free:
            row = self._free.pop()
            self._rows[row] = made
            return row
        self._rows.append(made)
        return len(self._rows) - 1

    def _step(self, rows: Rows, gradients: list[Floats], learning_rate: float | None) -> None:
        self._steps += 1
        optimiser = self.config.optimiser
        numbers = StepNumbers.of(optimiser, learning_rate, self._steps)
        sums: dict[int, Floats] = {}
        for row, gradient in zip(rows.tolist(), gradients, strict=True):
            sums[row] = sums.get(row, np.zeros(self.config.dimension, np.float32)) + gradient
        if getattr(optimiser, "exact", False):
            live = [row for row, held in enumerate(self._rows) if held.live]
            sums = {row: sums.get(row, np.zeros(self.config.dimension, np.float32)) for row in live}
        chances = mix_one((self.config.seed + self._steps) & MASK)
        for row, gradient in sums.items():
            held = self._rows[row]
            moved = step(optimiser, numbers, held.weights, held.state, gradient)
            draws = self.config.rounding == "stochastic" and self.config.precision != "float32"
            stream = stream_of(chances, row) if draws else None
            held.weights = rounded(moved.astype(np.float32), self.config.precision, stream)
