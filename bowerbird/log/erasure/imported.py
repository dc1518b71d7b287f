"""Erasing a user from the imported log: places stay, so that no other record's LSN changes."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bowerbird.declare.project import Project
from bowerbird.durable import storage_errors
from bowerbird.log.erasure.personal import Id, Personal, personal_columns
from bowerbird.log.imported.manifest import Part
from bowerbird.log.imported.parts import write_part
from bowerbird.log.imported.store import LogStore
from bowerbird.log.retractions import mark
from bowerbird.log.rows.coerce import to_mask
from bowerbird.log.rows.faults import Mask
from bowerbird.log.schema import AVAILABLE, FORGOTTEN, ID, TIME

MENTIONS = "mentions in other users' records"
_KEPT = (TIME, AVAILABLE)
_END = "\0"


def forget_imported(store: LogStore, project: Project, identifier: Id, salt: str) -> Counter[str]:
    """Rewrite the parts that name a user, and return how many records of each type went, and mentions.

    Of a record stay type, time, availability and a salted hash of its id, behind the id that it followed among
    records of one instant: so every other record keeps its LSN. One manifest makes all of it count at once.
    """
    removed: Counter[str] = Counter()
    replaced: dict[Part, Part] = {}
    for record in project.record_types:
        personal = personal_columns(record, project.user)
        for date in sorted({part.date for part in store.manifest.of_type(record.name)}):
            parts = [part for part in store.manifest.of_type(record.name) if part.date == date]
            replaced |= _Day(store, parts, personal, identifier, salt).rewrite(removed)
    store.replace(replaced)
    return removed


class _Day:
    """One type's parts of one day."""

    def __init__(self, store: LogStore, parts: list[Part], personal: Personal, identifier: Id, salt: str) -> None:
        self._store = store
        self._parts = parts
        self._personal = personal
        self._identifier = identifier
        self._salt = salt

    def rewrite(self, removed: Counter[str]) -> dict[Part, Part]:
        names = [self._personal.owner, *self._personal.mentions]
        columns = [name for name in names if name is not None]
        if not columns or not any(self._names_user(part, columns) for part in self._parts):
            return {}
        tables = [self._read(part) for part in self._parts]
        gone = [self._equal(table, self._personal.owner) for table in tables]
        ids = self._ids(tables, gone)
        replaced = {}
        for part, table, rows in zip(self._parts, tables, gone, strict=True):
            mine = ids.slice(0, len(rows))
            ids = ids.slice(len(rows))
            mentions = [self._equal(table, name) & ~rows for name in self._personal.mentions]
            removed[part.type] += int(rows.sum())
            removed[MENTIONS] += int(sum(mask.sum() for mask in mentions))
            new = _erase(table, rows, mine, dict(zip(self._personal.mentions, mentions, strict=True)))
            if not new.equals(table):
                replaced[part] = write_part(self._store.folder, part.type, part.date, new)
        return replaced

    def _read(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        path = self._store.folder / part.file
        with storage_errors(path), pq.ParquetFile(path) as file:
            known = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
            return file.read(known, use_threads=False)

    def _names_user(self, part: Part, columns: list[str]) -> bool:
        table = self._read(part, columns)
        return any(self._equal(table, name).any() for name in columns)

    def _equal(self, table: pa.Table, column: str | None) -> Mask:
        if column is None or column not in table.column_names:
            return np.zeros(table.num_rows, dtype=np.bool_)
        values = table.column(column).combine_chunks()
        return to_mask(pc.equal(values, pa.scalar(self._identifier, values.type)))

    def _ids(self, tables: list[pa.Table], gone: list[Mask]) -> pa.Array:
        """Return string [rows of all parts]: the ids, new ones for what is or was forgotten."""
        whole = pa.concat_tables([table.select([ID, AVAILABLE]) for table in tables])
        erased = np.concatenate(gone) | np.concatenate([mark(table, FORGOTTEN) for table in tables])
        order = pc.sort_indices(whole, [(AVAILABLE, "ascending"), (ID, "ascending")]).to_numpy()
        available = whole.column(AVAILABLE).to_numpy()
        ids = whole.column(ID).to_pylist()
        fresh, before = set(np.flatnonzero(np.concatenate(gone)).tolist()), -1
        for row in order.tolist():
            if not erased[row]:
                before = row
                continue
            follows = before >= 0 and available[before] == available[row]
            own = self._hash(ids[row]) if row in fresh else ids[row].rsplit(_END, 1)[-1]
            ids[row] = (ids[before] if follows else "") + _END + own
        return pa.array(ids, pa.string())

    def _hash(self, identifier: str) -> str:
        return hashlib.sha256(f"{self._salt}:{identifier}".encode()).hexdigest()[:24]


def _erase(table: pa.Table, rows: Mask, ids: pa.Array, mentions: dict[str, Mask]) -> pa.Table:
    """Return a part's table with new ids, without the values of ``rows`` and without mentions."""
    forgotten = mark(table, FORGOTTEN) | rows
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in table.column_names:
        empty = mentions.get(name, np.zeros(len(rows), dtype=np.bool_)) | rows
        column = table.column(name)
        untouched = name in _KEPT or not empty.any()
        columns[name] = column if untouched else pc.if_else(pa.array(empty), pa.scalar(None, column.type), column)
    columns[ID] = ids
    if forgotten.any():
        columns[FORGOTTEN] = pa.array(forgotten, mask=~forgotten)
    return pa.table(columns)
