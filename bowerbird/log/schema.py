"""The canonical Arrow schema of a declared record type: how the log stores its records."""

from __future__ import annotations

import pyarrow as pa

from bowerbird.declare.columns import ColumnType, PlainType, VectorType
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Exposure, Table
from bowerbird.errors import NotFoundError
from bowerbird.log.rows.vectors import vector_type
from bowerbird.plan.catalog import plain_type
from bowerbird.plan.mistake import nearest

ID = "_id"
TIME = "_time"
AVAILABLE = "_available"
RETRACTS = "_retracts"
FORGOTTEN = "_forgotten"
MARKS = (RETRACTS, FORGOTTEN)
LSN = "_lsn"
SLATE = "slate_id"
POSITION = "position"

_ARROW_TYPES = {
    ColumnType.TEXT: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.FLAG: pa.bool_(),
    ColumnType.NUMBER: pa.float64(),
}


def key_types(record: Event | Table) -> dict[str, ColumnType]:
    """Return the entities that a record must name, with the types of their ids."""
    entities = [record.entity] if isinstance(record, Table) else record.entities
    return {entity.name: entity.id for entity in entities}


def value_types(record: Event | Table) -> dict[str, PlainType]:
    """Return the record's other columns, which may be missing, with their plain types.

    Events also carry ``slate_id``, and exposures ``position``, unless they declare such a column themselves.
    """
    types: dict[str, PlainType] = {name: plain_type(column) for name, column in record.columns.items()}
    for name, column_type in _service_columns(record).items():
        types.setdefault(name, column_type)
    return types


def _service_columns(record: Event | Table) -> dict[str, ColumnType]:
    if isinstance(record, Exposure):
        return {SLATE: ColumnType.TEXT, POSITION: ColumnType.INTEGER}
    return {SLATE: ColumnType.TEXT} if isinstance(record, Event) else {}


def record_schema(record: Event | Table) -> pa.Schema:
    """Return ``_id`` string, ``_time`` and ``_available`` int64 (microseconds), the marks, then the declared names.

    The marks are bool: ``_retracts`` (the record takes back an earlier one), ``_forgotten`` (only its place is left).
    TEXT is string, INTEGER int64, FLAG bool, NUMBER float64, a vector fixed_size_list<float32> (a missing value is
    null).
    """
    fields = [(ID, pa.string()), (TIME, pa.int64()), (AVAILABLE, pa.int64()), *((mark, pa.bool_()) for mark in MARKS)]
    columns = key_types(record) | value_types(record)
    return pa.schema([*fields, *((name, arrow_type(kind)) for name, kind in columns.items())])


def arrow_type(kind: PlainType) -> pa.DataType:
    """Return the Arrow type of a column of a declared plain type."""
    return vector_type(kind.width) if isinstance(kind, VectorType) else _ARROW_TYPES[kind]


def expected(kind: PlainType) -> str:
    """Return a plain type in words, as messages name it."""
    return f"a list of {kind.width} finite numbers" if isinstance(kind, VectorType) else kind.value


def empty_table(record: Event | Table) -> pa.Table:
    """Return a table of the record's schema without rows."""
    return record_schema(record).empty_table()


def record_named(project: Project, name: str) -> Event | Table:
    """Return a record type by name; raises NotFoundError with the nearest right one."""
    for record in project.record_types:
        if record.name == name:
            return record
    names = [record.name for record in project.record_types]
    raise NotFoundError(f"The project has no record type {name!r}.", nearest(name, names))


def type_ranks(project: Project) -> dict[str, int]:
    """Return each record type's rank among records of one instant: exposures, then by name."""
    ordered = sorted(project.record_types, key=lambda record: (record is not project.exposure, record.name))
    return {record.name: rank for rank, record in enumerate(ordered)}
