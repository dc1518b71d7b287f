"""The whole log in LSN order, for whoever makes state, samples or indexes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.declare.records import Event, Table
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import CorruptionError, InputError
from bowerbird.log.imported.reader import Day, ImportedLog
from bowerbird.log.live.records import live_chunks, live_table
from bowerbird.log.live.wal_reader import Payload, wal_bounds
from bowerbird.log.retractions import mark, standing
from bowerbird.log.schema import (
    AVAILABLE,
    FORGOTTEN,
    ID,
    LSN,
    MARKS,
    RETRACTS,
    SLATE,
    TIME,
    record_named,
    record_schema,
)
from bowerbird.log.slate_id import read_slate_id
from bowerbird.plan.batch import RETRACTION, RecordBatch, Slots
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan

READ_LSN = "_read_lsn"
READ_TIME = "_read_time"
_BATCH_ROWS = 1 << 17

Integers = npt.NDArray[np.int64]
Slates = Mapping[str, tuple[int, int]]
"""Slate id to (LSN, request time in microseconds) of what it saw."""


@dataclass(frozen=True)
class LogBatch:
    """Consecutive records in LSN order; ``first_lsn`` is the first one's."""

    first_lsn: int
    records: RecordBatch


class LogReader:
    """A workspace's log as it was at construction: imported records, then live ones.

    It may be read while a server appends; raises CorruptionError for damaged files.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._project = workspace.project
        self._wal_folder = workspace.wal_folder
        self._imported = ImportedLog(workspace.log_folder, workspace.project)
        base, end = wal_bounds(self._wal_folder) or (self._imported.size, self._imported.size)
        if end > base and base != self._imported.size:
            raise CorruptionError(
                f"{self._wal_folder} follows {base:,} imported records; there are {self._imported.size:,}.",
                "The two folders do not belong together: restore both from one backup.",
            )
        self._size = max(end, self._imported.size)

    @property
    def imported_size(self) -> int:
        """How many records were imported: the first live record's LSN."""
        return self._imported.size

    @property
    def size(self) -> int:
        """How many records there are, imported and live: the LSN that the next one gets."""
        return self._size

    @property
    def frontier(self) -> int:
        """The time (microseconds) up to which the log is complete: its last record's availability."""
        last = self._imported.last_available
        for chunk in live_chunks(self._wal_folder, max(self.imported_size, self._size - 1), self._size):
            last = max(last, int(chunk[-1][1][AVAILABLE]))
        return last

    def lsn_at(self, time: int) -> int:
        """Return the LSN of the first record that became available at ``time`` (microseconds) or later."""
        lsn = int(self._imported.count_before(np.array([time], dtype=np.int64))[0])
        if lsn < self.imported_size:
            return lsn
        for chunk in live_chunks(self._wal_folder, self.imported_size, self._size):
            for live_lsn, payload in chunk:
                if payload[AVAILABLE] >= time:
                    return live_lsn
        return self._size

    def batches(self, plan: Plan, encoder: Encoder, first: int = 0, last: int | None = None) -> Iterator[LogBatch]:
        """Yield every record from LSN ``first`` to below ``last`` as slots of a plan, in order.

        Records whose type the plan does not have are there too, with type index -1 and missing slots, and so are
        forgotten ones. A retraction's type index carries ``RETRACTION``.
        """
        end = self._end(last)
        for day in self._imported.days(first, end):
            start, stop = max(first, day.first_lsn), min(end, day.end_lsn)
            for lsn in range(start, stop, _BATCH_ROWS):
                yield LogBatch(lsn, _encode_day(day, plan, encoder, lsn, min(lsn + _BATCH_ROWS, stop)))
        for chunk in live_chunks(self._wal_folder, max(first, self.imported_size), end):
            yield LogBatch(chunk[0][0], self._encode_live([payload for _, payload in chunk], plan, encoder))

    def records(self, type_name: str, first: int = 0, last: int | None = None) -> pa.Table:
        """Return a type's records in LSN order: its canonical columns without the marks, then ``_lsn`` int64.

        What a retraction in the same range takes back is not there, and neither is the retraction. Raises
        NotFoundError for a type that is not declared.
        """
        record = record_named(self._project, type_name)
        tables = [_empty(record), *self._record_tables(record, first, self._end(last))]
        return standing(pa.concat_tables(tables))

    def exposures(self, slates: Slates | None = None) -> pa.Table:
        """Return the exposures in LSN order with ``_lsn``, ``_read_lsn`` and ``_read_time`` (int64).

        An exposure may see the records below ``_read_lsn``, at ``_read_time``. Imported: what became
        available before its event time. Live with a ``slate_id``: what the slate saw, as ``slates`` or else
        the id itself tells. Live without one: every record of a lower LSN, at its event time.
        """
        table = self.records(self._project.exposure.name)
        lsn, time = table.column(LSN).to_numpy(), table.column(TIME).to_numpy()
        imported = lsn < self.imported_size
        read_lsn, read_time = lsn.copy(), time.copy()
        read_lsn[imported] = np.minimum(self._imported.count_before(time[imported]), lsn[imported])
        for row in np.flatnonzero(~imported):
            seen = _seen(table.column(SLATE)[int(row)].as_py(), slates or {})
            if seen is not None and seen[0] <= lsn[row]:
                read_lsn[row], read_time[row] = seen
        return table.append_column(READ_LSN, pa.array(read_lsn)).append_column(READ_TIME, pa.array(read_time))

    def _end(self, last: int | None) -> int:
        return self._size if last is None else min(last, self._size)

    def _record_tables(self, record: Event | Table, first: int, last: int) -> Iterator[pa.Table]:
        columns = record_schema(record).names
        for day in self._imported.days(first, last):
            places = np.flatnonzero(day.of_type(record.name))
            places = places[(places >= first - day.first_lsn) & (places < last - day.first_lsn)]
            table = day.read(record, columns).take(pa.array(day.order.rows[places]))
            yield table.append_column(LSN, pa.array(places + day.first_lsn))
        for chunk in live_chunks(self._wal_folder, max(first, self.imported_size), last):
            own = [(lsn, payload) for lsn, payload in chunk if payload["_type"] == record.name]
            table = live_table(record, [payload for _, payload in own], columns)
            yield table.append_column(LSN, pa.array([lsn for lsn, _ in own], pa.int64()))

    def _encode_live(self, payloads: Sequence[Payload], plan: Plan, encoder: Encoder) -> RecordBatch:
        batch = _Filling(plan, len(payloads))
        batch.times[:] = [payload[TIME] for payload in payloads]
        names = np.array([payload["_type"] for payload in payloads])
        for name in np.unique(names):
            places = np.flatnonzero(names == name)
            if batch.has(str(name)):
                record = record_named(self._project, str(name))
                own = [payloads[int(place)] for place in places]
                batch.put(places, str(name), live_table(record, own, [*MARKS, *encoder.columns(str(name))]), encoder)
        return batch.result()


class _Filling:
    """A record batch that is filled a type at a time."""

    def __init__(self, plan: Plan, rows: int) -> None:
        self._indices = {record.name: index for index, record in enumerate(plan.types)}
        self.types = np.full(rows, -1, dtype=np.int32)
        self.times = np.zeros(rows, dtype=np.int64)
        self.slots: Slots = np.repeat(_missing(plan)[:, None], rows, axis=1)
        self._vectors: dict[int, list[tuple[Integers, npt.NDArray[np.float32]]]] = {}

    def has(self, name: str) -> bool:
        """Return whether the plan has a record type."""
        return name in self._indices

    def put(self, places: Integers, name: str, table: pa.Table, encoder: Encoder) -> None:
        """Write a type's records, with the marks and the columns that the plan reads, to their places."""
        kinds = self._indices[name] + RETRACTION * mark(table, RETRACTS)
        self.types[places] = np.where(mark(table, FORGOTTEN), -1, kinds)
        self.slots[:, places] = encoder.encode_table(name, table)
        for slot, vectors in encoder.encode_vectors(name, table).items():
            known = ~np.isnan(vectors).any(axis=1)
            self._vectors.setdefault(slot, []).append((places[known], vectors[known]))

    def result(self) -> RecordBatch:
        """Return the filled batch."""
        vectors = {slot: _in_order(parts) for slot, parts in self._vectors.items()}
        return RecordBatch(self.types, self.times, self.slots, vectors)


def _in_order(parts: list[tuple[Integers, npt.NDArray[np.float32]]]) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Return vectors of several types' rows by ascending row."""
    rows = np.concatenate([places for places, _ in parts]).astype(np.int64)
    order = np.argsort(rows)
    return rows[order], np.concatenate([vectors for _, vectors in parts])[order]


def _missing(plan: Plan) -> Slots:
    nan = np.array([np.nan]).view(np.uint64)[0]
    return np.array([0 if slot.is_category else nan for slot in plan.slots], dtype=np.uint64)


def _encode_day(day: Day, plan: Plan, encoder: Encoder, first: int, last: int) -> RecordBatch:
    span = slice(first - day.first_lsn, last - day.first_lsn)
    kinds, rows = day.order.types[span], day.order.rows[span]
    batch = _Filling(plan, last - first)
    for kind in np.unique(kinds):
        record = day.records[kind]
        columns = [*MARKS, *encoder.columns(record.name)] if batch.has(record.name) else []
        places = np.flatnonzero(kinds == kind)
        table = day.read(record, [TIME, *columns]).take(pa.array(rows[places]))
        batch.times[places] = table.column(TIME).to_numpy()
        if batch.has(record.name):
            batch.put(places, record.name, table, encoder)
    return batch.result()


def _empty(record: Event | Table) -> pa.Table:
    return record_schema(record).append(pa.field(LSN, pa.int64())).empty_table()


def _seen(slate: str | None, slates: Slates) -> tuple[int, int] | None:
    if slate is None or slate in slates:
        return slates.get(slate) if slate is not None else None
    try:
        decoded = read_slate_id(slate)
    except InputError:
        return None
    return decoded.lsn, decoded.time


__all__ = ["ID", "LSN", "READ_LSN", "READ_TIME", "LogBatch", "LogReader", "Slates"]
