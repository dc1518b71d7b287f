"""Attributes as they were at any place of the log: every row of the tables that a plan follows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bowerbird.monitoring.records import Indices, Placed, join, plain_types, span, take
from bowerbird.monitoring.restrict import feed_paths
from bowerbird.plan.encode import number_bits
from bowerbird.plan.spec import MISSING_KEY, Path, Plan

Words = npt.NDArray[np.uint64]
_NAN_BITS = number_bits(float("nan"))


class AttributeHistory:
    """Table rows in LSN order, of which the latest below an LSN is in force; fed a batch at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        paths = [node.path for node in plan.nodes if node.path is not None]
        paths += [path for aggregate in plan.aggregates for feed in aggregate.feeds for path in feed_paths(feed)]
        self._tables = {hop.table: _TableHistory(plan, hop.table) for path in paths for hop in path.hops}

    def add(self, batch: Placed) -> None:
        """Take the table rows of a batch; LSNs go up from batch to batch."""
        types, retracts = plain_types(batch.records.types)
        for index, table in self._tables.items():
            rows = np.flatnonzero((types == index) & ~retracts)
            if len(rows):
                table.add(Placed(batch.lsns[rows], take(batch.records, rows)))

    def add_from(self, batch: Placed, first: int) -> None:
        """Take the table rows of a batch from an LSN on: those below it are there already."""
        start = max(0, first - int(batch.lsns[0])) if len(batch.lsns) else 0
        if start < len(batch.lsns):
            self.add(Placed(batch.lsns[start:], span(batch.records, start, len(batch.lsns))))

    def follow(self, path: Path, slots: Words, lsns: Indices) -> Words:
        """Return uint64 [n]: where a path leads from records (slots [slots, n]) as of their LSNs."""
        values: Words = slots[path.slot]
        for hop in path.hops:
            values = self._tables[hop.table].values(hop.slot, values, lsns)
        return values

    def rows_used(self, paths: Iterable[Path], slots: Words, lsns: Indices) -> list[Placed]:
        """Return the table rows that paths pass through on their way from records, as of their LSNs."""
        used: dict[int, set[int]] = {}
        for path in paths:
            values = slots[path.slot]
            for hop in path.hops:
                table = self._tables[hop.table]
                rows = table.rows(values, lsns)
                used.setdefault(hop.table, set()).update(rows[rows >= 0].tolist())
                values = table.values(hop.slot, values, lsns)
        return [self._tables[table].placed(np.array(sorted(rows), np.int64)) for table, rows in used.items() if rows]


class _TableHistory:
    """One table's rows."""

    def __init__(self, plan: Plan, table: int) -> None:
        self._slots = len(plan.slots)
        self._missing = [MISSING_KEY if slot.is_category else _NAN_BITS for slot in plan.slots]
        self._entity = plan.types[table].slots[0]
        self._waiting: list[Placed] = []
        self._rows = join([], self._slots)
        self._index()

    def add(self, rows: Placed) -> None:
        self._waiting.append(rows)

    def rows(self, keys: Words, lsns: Indices) -> Indices:
        """Return int64 [n]: the row in force for a key below an LSN, -1 without one."""
        self._settle()
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        rank = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (self._keys[rank] == keys) & (keys != MISSING_KEY)
        at = np.searchsorted(self._composite, rank * self._stride + np.minimum(lsns, self._stride - 1)) - 1
        there = known & (at >= 0) & (self._composite[at] // self._stride == rank)
        return np.where(there, self._order[at], -1)

    def values(self, slot: int, keys: Words, lsns: Indices) -> Words:
        rows = self.rows(keys, lsns)
        values = np.full(len(keys), self._missing[slot], np.uint64)
        values[rows >= 0] = self._rows.records.slots[slot, rows[rows >= 0]]
        return values

    def placed(self, rows: Indices) -> Placed:
        return Placed(self._rows.lsns[rows], take(self._rows.records, rows))

    def _settle(self) -> None:
        if self._waiting:
            self._rows = join([self._rows, *self._waiting], self._slots)
            self._waiting = []
            self._index()

    def _index(self) -> None:
        """Order rows by key and LSN: one number for both, so that one search finds the row in force."""
        keys, lsns = self._rows.records.slots[self._entity], self._rows.lsns
        self._keys, rank = np.unique(keys, return_inverse=True)
        self._stride = int(lsns[-1]) + 2 if len(lsns) else 1
        composite = rank.astype(np.int64) * self._stride + lsns
        self._order = np.argsort(composite)
        self._composite = composite[self._order]


def numbers_of(words: Words) -> npt.NDArray[np.float64]:
    """Return the float64 values of slots."""
    return np.ascontiguousarray(words).view(np.float64)
