"""Reading the imported log in LSN order, with no more than a day of it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Table
from bowerbird.errors import InputError
from bowerbird.log.imported.manifest import Manifest, Part, read_manifest
from bowerbird.log.imported.order import DayOrder, Integers, order_day
from bowerbird.log.imported.parts import DAY, read_part
from bowerbird.log.schema import AVAILABLE, ID, record_schema, type_ranks


@dataclass(frozen=True)
class Day:
    """One day of the imported log: the LSN of its first record, and its parts by record type."""

    folder: Path
    date: str
    first_lsn: int
    parts: dict[str, list[Part]]
    records: list[Event | Table]

    @property
    def rows(self) -> int:
        """Return how many records the day has."""
        return sum(part.rows for parts in self.parts.values() for part in parts)

    @property
    def end_lsn(self) -> int:
        """Return the LSN after the day's last record."""
        return self.first_lsn + self.rows

    def read(self, record: Event | Table, columns: Sequence[str]) -> pa.Table:
        """Return columns of the day's records of one type."""
        schema = record_schema(record)
        tables = [read_part(self.folder, part, schema, columns) for part in self.parts.get(record.name, [])]
        return pa.concat_tables(tables) if tables else schema.empty_table().select(list(columns))

    @cached_property
    def order(self) -> DayOrder:
        """The day's order, worked out on first use."""
        available = [self.read(record, [AVAILABLE]).column(AVAILABLE).to_numpy() for record in self.records]
        return order_day(available, lambda kind: self.read(self.records[kind], [ID]).column(ID))

    def of_type(self, name: str) -> npt.NDArray[np.bool_]:
        """Return bool [rows]: which places of the day's order hold a record of a type."""
        mask: npt.NDArray[np.bool_] = self.order.types == [record.name for record in self.records].index(name)
        return mask


class ImportedLog:
    """The imported records of a log folder as its manifest had them at construction."""

    def __init__(self, folder: Path, project: Project) -> None:
        self._folder = folder
        self._manifest: Manifest = read_manifest(folder)
        ranks = type_ranks(project)
        known = {record.name: record for record in project.record_types}
        self._records = [known[name] for name in sorted(known, key=lambda name: ranks[name])]
        self._check_types(set(known))
        self._bounds = self._day_bounds()

    @property
    def size(self) -> int:
        """How many records there are."""
        return self._manifest.rows

    def days(self, first: int = 0, last: int | None = None) -> Iterator[Day]:
        """Yield the days that hold records from LSN ``first`` to below ``last``."""
        for date, start, end in self._bounds:
            if end > first and (last is None or start < last):
                yield self._day(date, start)

    @property
    def last_available(self) -> int:
        """When the last record became available (microseconds); 0 for an empty log."""
        if not self._bounds:
            return 0
        date, start, _ = self._bounds[-1]
        return int(self._day(date, start).order.available[-1])

    def count_before(self, times: Integers) -> Integers:
        """Return int64 [n]: how many records became available before each of the times."""
        counts = np.full(len(times), self.size, dtype=np.int64)
        days = times // DAY
        dates = np.array([np.datetime64(date, "D").astype(np.int64) for date, _, _ in self._bounds], dtype=np.int64)
        following = np.searchsorted(dates, days)
        for at in np.unique(following[following < len(dates)]):
            date, start, _ = self._bounds[at]
            counts[following == at] = start
            within = (following == at) & (days == dates[at])
            if within.any():
                counts[within] = start + np.searchsorted(self._day(date, start).order.available, times[within])
        return counts

    def _day(self, date: str, first_lsn: int) -> Day:
        parts: dict[str, list[Part]] = {}
        for part in self._manifest.parts:
            if part.date == date:
                parts.setdefault(part.type, []).append(part)
        return Day(self._folder, date, first_lsn, parts, self._records)

    def _day_bounds(self) -> list[tuple[str, int, int]]:
        rows: dict[str, int] = {}
        for part in self._manifest.parts:
            rows[part.date] = rows.get(part.date, 0) + part.rows
        bounds, start = [], 0
        for date in sorted(rows):
            bounds.append((date, start, start + rows[date]))
            start += rows[date]
        return bounds

    def _check_types(self, known: set[str]) -> None:
        unknown = {part.type for part in self._manifest.parts} - known
        if unknown:
            raise InputError(
                f"{self._folder} holds undeclared record types: {', '.join(sorted(unknown))}.",
                "Declare them, or delete the log folder and ingest again.",
            )
