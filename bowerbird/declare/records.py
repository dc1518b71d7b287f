"""Records of the log: events, exposures and tables of attributes, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bowerbird.declare.columns import ColumnRef, ColumnType, Condition, Entity, Location, VectorType, located

EventColumn = ColumnType | Entity
"""A column holds plain values of a type, or identifiers of an entity."""
TableColumn = EventColumn | VectorType
"""A table's column may also hold vectors."""


@dataclass(frozen=True)
class Event:
    """Something that happened, with a time: click, order, like.

    ``entities`` are its keys; ``columns`` its other values. ``delay`` is how long after it happened
    a record usually becomes available (for example ``"5m"``); an imported log is ordered by it.
    A record that becomes available more than ``lateness`` after its time plus the delay is counted as late and,
    by ``beyond``, applied all the same (``"apply"``) or put with the dead letters (``"reject"``); without
    ``lateness`` no record is too late.
    """

    name: str
    entities: Sequence[Entity]
    columns: Mapping[str, EventColumn] = field(default_factory=dict)
    delay: str = "0s"
    lateness: str | None = None
    beyond: Literal["apply", "reject"] = "apply"
    location: Location = located()

    def __getitem__(self, column: str) -> ColumnRef:
        """Return a reference to a column of this event."""
        return ColumnRef(self.name, column, of_table=False)

    def where(self, *conditions: Condition) -> FilteredEvent:
        """Return the events for which every condition holds."""
        return FilteredEvent(self, conditions)


@dataclass(frozen=True)
class Exposure(Event):
    """An item shown to a user in a slate at a position; its columns are the request's context."""


@dataclass(frozen=True)
class FilteredEvent:
    """An event with conditions on its columns or its entities' attributes."""

    event: Event
    conditions: tuple[Condition, ...]


EventFilter = Event | FilteredEvent


@dataclass(frozen=True)
class Table:
    """Attributes of one entity; each record replaces the entity's earlier attributes.

    Rows without a time hold from the beginning of the log.
    """

    name: str
    entity: Entity
    columns: Mapping[str, TableColumn]
    delay: str = "0s"
    location: Location = located()

    def __getitem__(self, column: str) -> ColumnRef:
        """Return a reference to an attribute."""
        return ColumnRef(self.name, column, of_table=True)


@dataclass(frozen=True)
class Timestamp:
    """How a source writes a time.

    ``unit`` is ``s``, ``ms``, ``us`` or ``ns`` for numbers since 1970 and ``text`` for ISO 8601 or
    ``format`` (strptime). A text without an offset is read in ``timezone`` (an IANA name).
    """

    column: str
    unit: str = "text"
    timezone: str = "UTC"
    format: str | None = None
    location: Location = located()


@dataclass(frozen=True)
class Field:
    """A raw column of a source file, to be compared with a constant: ``Field("rating") >= 4``."""

    name: str
    location: Location = located()

    def __eq__(self, other: object) -> FieldCondition:  # type: ignore[override]
        return FieldCondition(self.name, "==", other)

    def __ne__(self, other: object) -> FieldCondition:  # type: ignore[override]
        return FieldCondition(self.name, "!=", other)

    def __lt__(self, other: float) -> FieldCondition:
        return FieldCondition(self.name, "<", other)

    def __le__(self, other: float) -> FieldCondition:
        return FieldCondition(self.name, "<=", other)

    def __gt__(self, other: float) -> FieldCondition:
        return FieldCondition(self.name, ">", other)

    def __ge__(self, other: float) -> FieldCondition:
        return FieldCondition(self.name, ">=", other)

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class FieldCondition:
    """A raw column compared with a constant, evaluated while a file is ingested."""

    column: str
    comparison: str
    value: object
    location: Location = located()


@dataclass(frozen=True)
class Action:
    """An action event that a wide row implies when ``when`` holds (a column name: when it is truthy).

    It happened at ``time`` (an absolute column), or ``after`` (column, unit) past the row's time, or at
    the row's time. ``columns`` maps the event's columns to the row's, where the names differ.
    """

    event: Event
    when: str | FieldCondition
    time: Timestamp | None = None
    after: tuple[str, str] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    location: Location = located()


@dataclass(frozen=True)
class Source:
    """Files that become records of one kind (an event, exposure or table), with their actions.

    ``files`` is a glob relative to the project's raw folder. ``columns`` maps declared names (entities and
    columns) to the file's; a name that is not mapped stands for itself. ``id`` names a column with a unique
    event id; without one, ``key`` names the columns that identify a row. Records become available ``delay`` after
    their time (default: the record type's delay), or at the time in ``available``, where the file holds it. Where
    the column ``retracts`` is truthy, a row takes back the earlier one of the same id, time and values, from then on.
    """

    name: str
    files: str
    record: Event | Table
    time: Timestamp | None = None
    id: str | None = None
    key: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    actions: Sequence[Action] = ()
    retracts: str | None = None
    delay: str | None = None
    available: Timestamp | None = None
    location: Location = located()
