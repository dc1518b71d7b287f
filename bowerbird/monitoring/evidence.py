"""The log's events that concern one key of an aggregate, found in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bowerbird.monitoring.attributes import AttributeHistory, Words, numbers_of
from bowerbird.monitoring.records import Indices, Placed, join, plain_types, take
from bowerbird.monitoring.restrict import feed_paths
from bowerbird.plan.spec import MISSING_KEY, Aggregate, Feed, Plan, Test

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeyedRead:
    """An aggregate (its index) read at a key, given by its parts; a part that is missing has no state."""

    aggregate: int
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """What could have fed a read, in LSN order: events of its key, below the read's LSN, that passed the filters.

    ``lsns``, ``times`` (microseconds) and ``retracts`` are [n], ``values`` float64 [n] (0 without a value column),
    ``fields`` uint64 [fields, n], ``feeds`` the index of the feed that took the event. Of the key's other events there
    are only counts: ``filtered``, ``valueless`` (the summed value was missing), ``later`` (at or above the LSN), and
    ``late`` (those of the later ones that had happened before the read's time).
    """

    lsns: Indices
    times: Indices
    retracts: Mask
    values: npt.NDArray[np.float64]
    fields: Words
    feeds: Indices
    filtered: int = 0
    valueless: int = 0
    later: int = 0
    late: int = 0

    def __len__(self) -> int:
        return len(self.lsns)


@dataclass
class _Gathering:
    """One read's evidence while the log goes by."""

    lsns: list[Indices] = field(default_factory=list)
    times: list[Indices] = field(default_factory=list)
    retracts: list[Mask] = field(default_factory=list)
    values: list[npt.NDArray[np.float64]] = field(default_factory=list)
    fields: list[Words] = field(default_factory=list)
    feeds: list[Indices] = field(default_factory=list)
    filtered: int = 0
    valueless: int = 0
    later: int = 0
    late: int = 0

    def finish(self, fields: int) -> Evidence:
        if not self.lsns:
            empty = np.empty(0, np.int64)
            return Evidence(
                empty, empty, empty.astype(bool), empty.astype(np.float64), np.empty((fields, 0), np.uint64), empty,
                self.filtered, self.valueless, self.later, self.late,
            )  # fmt: skip
        lsns, feeds = np.concatenate(self.lsns), np.concatenate(self.feeds)
        order = np.lexsort((feeds, lsns))
        return Evidence(
            lsns[order],
            np.concatenate(self.times)[order],
            np.concatenate(self.retracts)[order],
            np.concatenate(self.values)[order],
            np.concatenate(self.fields, axis=1)[:, order],
            feeds[order],
            self.filtered,
            self.valueless,
            self.later,
            self.late,
        )


class Gatherer:
    """Collects the evidence of several reads at one place of the log, ``read_lsn`` and ``read_time``."""

    def __init__(
        self, plan: Plan, history: AttributeHistory, reads: Sequence[KeyedRead], read_lsn: int, read_time: int
    ) -> None:
        self._plan = plan
        self._history = history
        self._read_lsn = read_lsn
        self._read_time = read_time
        self._gathering = {read: _Gathering() for read in reads}
        self._kept: list[Placed] = []

    def add(self, batch: Placed) -> None:
        """Look through a batch; the history must hold its table rows."""
        types, retracts = plain_types(batch.records.types)
        found: list[Indices] = []
        for read, gathering in self._gathering.items():
            aggregate = self._plan.aggregates[read.aggregate]
            for index, feed in enumerate(aggregate.feeds):
                rows = self._of_key(feed, read.parts, np.flatnonzero(types == feed.type), batch)
                if len(rows):
                    found.append(self._judge(gathering, index, feed, rows, retracts, batch))
        if found:
            rows = np.unique(np.concatenate(found))
            self._kept.append(Placed(batch.lsns[rows], take(batch.records, rows)))

    def evidence(self, read: KeyedRead) -> Evidence:
        """Return what was found for a read."""
        return self._gathering[read].finish(self._plan.aggregates[read.aggregate].fields)

    def records(self) -> Placed:
        """Return the records behind the evidence of every read, each once."""
        return join(self._kept, len(self._plan.slots))

    def _of_key(self, feed: Feed, parts: tuple[int, ...], rows: Indices, batch: Placed) -> Indices:
        if MISSING_KEY in parts:
            return rows[:0]
        for path, wanted in zip(feed.keys, parts, strict=True):
            if len(rows):
                keys = self._history.follow(path, batch.records.slots[:, rows], batch.lsns[rows])
                rows = rows[keys == np.uint64(wanted)]
        return rows

    def _judge(
        self, gathering: _Gathering, index: int, feed: Feed, rows: Indices, retracts: Mask, batch: Placed
    ) -> Indices:
        """Count what does not take part and keep what does; return the rows kept."""
        late = batch.lsns[rows] >= self._read_lsn
        gathering.later += int(late.sum())
        gathering.late += int((batch.records.times[rows[late]] < self._read_time).sum())
        rows = rows[~late]
        slots, lsns = batch.records.slots[:, rows], batch.lsns[rows]
        passes = np.ones(len(rows), bool)
        for test in feed.tests:
            passes &= _passes(test, self._history.follow(test.path, slots, lsns))
        values = np.zeros(len(rows))
        if feed.value is not None:
            values = numbers_of(self._history.follow(feed.value, slots, lsns))
        valued = ~np.isnan(values)
        gathering.filtered += int((~passes).sum())
        gathering.valueless += int((passes & ~valued).sum())
        kept = passes & valued
        fields = [self._history.follow(path, slots, lsns)[kept] for path in feed.fields]
        gathering.lsns.append(lsns[kept])
        gathering.times.append(batch.records.times[rows[kept]])
        gathering.retracts.append(retracts[rows[kept]])
        gathering.values.append(values[kept])
        gathering.fields.append(np.array(fields, np.uint64).reshape(len(fields), int(kept.sum())))
        gathering.feeds.append(np.full(int(kept.sum()), index, np.int64))
        return rows[kept]


def attribute_rows(
    plan: Plan, history: AttributeHistory, aggregate: Aggregate, events: Placed, feeds: Indices
) -> list[Placed]:
    """Return the table rows that an aggregate's feeds passed through for its events (``feeds`` is int64 [n])."""
    used: list[Placed] = []
    for index, feed in enumerate(aggregate.feeds):
        rows = np.flatnonzero(feeds == index)
        used += history.rows_used(feed_paths(feed), events.records.slots[:, rows], events.lsns[rows])
    return used


_ORDERS = {
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _passes(test: Test, words: Words) -> Mask:
    if test.numbers:
        return _number_passes(test, numbers_of(words))
    among = np.isin(words, np.array(test.keys, np.uint64))
    return (words != MISSING_KEY) & ~among if test.comparison == "!=" else among


def _number_passes(test: Test, numbers: npt.NDArray[np.float64]) -> Mask:
    known: Mask = ~np.isnan(numbers)
    if test.comparison in ("==", "in"):
        holds = np.isin(numbers, test.numbers)
    else:
        holds = np.asarray(_ORDERS[test.comparison](numbers, test.numbers[0]), bool)
    return known & holds
