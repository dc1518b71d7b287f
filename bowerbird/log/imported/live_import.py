"""Where an ingest puts its records: the imported log, or the write-ahead log once the platform is live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Table
from bowerbird.declare.workspace import Workspace
from bowerbird.log.imported.store import LogStore
from bowerbird.log.live.wal_reader import wal_bounds
from bowerbird.log.live.write_ahead import WAL_LOCK_REMEDY, WriteAheadLog, open_wal, remove_empty_wal
from bowerbird.log.lock import FolderLock
from bowerbird.log.schema import AVAILABLE, ID, type_ranks

_APPEND_ROWS = 4096


class Destination(Protocol):
    """Takes new records of all types and makes them part of the log at ``commit``."""

    live: bool
    staging_folder: Path

    def stored_ids(self, record: Event | Table) -> Iterator[pa.ChunkedArray]:
        """Yield the ids of a type's records that are already in the log."""

    def add(self, name: str, table: pa.Table) -> None:
        """Take new records of a type."""

    def commit(self) -> None:
        """Make what was added part of the log."""


@contextmanager
def open_destination(workspace: Workspace, now: int) -> Iterator[Destination]:
    """Open where new records go; raises UnavailableError while a server or another ingest writes."""
    with ExitStack() as stack:
        store = stack.enter_context(LogStore(workspace.log_folder))
        lock = stack.enter_context(FolderLock(workspace.wal_folder, WAL_LOCK_REMEDY))
        bounds = wal_bounds(workspace.wal_folder)
        if bounds is None or bounds[0] == bounds[1]:
            yield _Imported(store, workspace.wal_folder)
            return
        lock.release()
        yield _Live(store, stack.enter_context(open_wal(workspace)), workspace.project, now)


class _Imported:
    """Before the first live record: a new part of the imported log."""

    live = False

    def __init__(self, store: LogStore, wal_folder: Path) -> None:
        self._store = store
        self._wal_folder = wal_folder
        self.staging_folder = store.staging_folder

    def stored_ids(self, record: Event | Table) -> Iterator[pa.ChunkedArray]:
        """Yield the ids of a type's imported records."""
        return self._store.stored_ids(record)

    def add(self, name: str, table: pa.Table) -> None:
        """Write new records to parts."""
        self._store.add(name, table)

    def commit(self) -> None:
        """Replace the manifest; a write-ahead log without records begins anew after it."""
        remove_empty_wal(self._wal_folder, imported=-1)
        self._store.commit()


class _Live:
    """After live records: appended behind them, in order of modelled availability, available now."""

    live = True

    def __init__(self, store: LogStore, wal: WriteAheadLog, project: Project, now: int) -> None:
        self._store = store
        self._wal = wal
        self._now = now
        self._ranks = type_ranks(project)
        self._ids = _ids_by_type(wal)
        self._tables: list[tuple[str, pa.Table]] = []
        self.staging_folder = store.staging_folder

    def stored_ids(self, record: Event | Table) -> Iterator[pa.ChunkedArray]:
        """Yield the ids of a type's imported and live records."""
        yield from self._store.stored_ids(record)
        yield pa.chunked_array([pa.array(self._ids[record.name], pa.string())])

    def add(self, name: str, table: pa.Table) -> None:
        """Take new records."""
        self._tables.append((name, table))

    def commit(self) -> None:
        """Append in order and sync.

        An interruption may leave a beginning of the import in the log. That is no damage: records stand for
        themselves, those that are there are whole and in order, no server runs that would have seen half of them,
        and the next ingest of the same files adds the rest, once.
        """
        rows = [row for name, table in self._tables for row in self._keyed_rows(name, table)]
        rows.sort(key=lambda row: row[0])
        for start in range(0, len(rows), _APPEND_ROWS):
            self._wal.append([payload for _, payload in rows[start : start + _APPEND_ROWS]], self._now)
        self._wal.sync()

    def _keyed_rows(self, name: str, table: pa.Table) -> Iterator[tuple[tuple[int, int, str], dict[str, Any]]]:
        ordered = table.take(pc.sort_indices(table, [(AVAILABLE, "ascending"), (ID, "ascending")]))
        for row in ordered.to_pylist():
            key = (row.pop(AVAILABLE), self._ranks[name], row[ID])
            yield (
                key,
                {"_type": name, **{column: value for column, value in row.items() if value is not None}},
            )


def _ids_by_type(wal: WriteAheadLog) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for _, payload in wal.iterate():
        ids[payload["_type"]].append(payload[ID])
    return ids
