"""Column types and references: the smallest things that a declaration is made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class ColumnType(Enum):
    """What a column holds.

    TEXT, INTEGER and FLAG are categories (hashed to 64-bit keys); NUMBER is a float64.
    """

    TEXT = "text"
    INTEGER = "integer"
    FLAG = "flag"
    NUMBER = "number"

    @property
    def is_category(self) -> bool:
        """Whether values are identities (hashed) instead of quantities."""
        return self is not ColumnType.NUMBER


TEXT = ColumnType.TEXT
INTEGER = ColumnType.INTEGER
FLAG = ColumnType.FLAG
NUMBER = ColumnType.NUMBER


@dataclass(frozen=True)
class VectorType:
    """A column of ``width`` numbers, float32 (an embedding made elsewhere), written ``VECTOR(64)``; only in tables."""

    width: int

    @property
    def value(self) -> str:
        """The type's name in plans and messages."""
        return "vector"

    @property
    def is_category(self) -> bool:
        """Never: a vector is no identity."""
        return False


VECTOR = VectorType
PlainType = ColumnType | VectorType
"""What values a column holds, once an entity's column is taken as its ids."""


@dataclass(frozen=True)
class Location:
    """File and line where the user wrote a declaration."""

    file: str
    line: int


_DECLARE_FOLDER = str(Path(__file__).parent)


def caller_location() -> Location:
    """Return the nearest stack frame outside this package: the user's own line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_DECLARE_FOLDER, "<string>")):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)


def located() -> Any:
    """Return the dataclass field that records where the owner was declared."""
    return field(default_factory=caller_location, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Entity:
    """What features are keyed by: user, item, author, query.

    ``id`` is the type of its identifier, TEXT or INTEGER.
    """

    name: str
    id: ColumnType = ColumnType.TEXT
    location: Location = located()


@dataclass(frozen=True)
class ColumnRef:
    """A column of an event or a table, as written ``owner["name"]``; resolved by ``check``."""

    owner: str
    column: str
    of_table: bool
    location: Location = located()

    def __eq__(self, other: object) -> Any:
        """Return a condition ``column == value``, or compare references with each other."""
        if isinstance(other, ColumnRef):
            return (self.owner, self.column, self.of_table) == (other.owner, other.column, other.of_table)
        if isinstance(other, Entity):
            return False
        return Condition(self, "==", other)

    def __hash__(self) -> int:
        return hash((self.owner, self.column, self.of_table))

    def __ne__(self, other: object) -> Any:
        return Condition(self, "!=", other)

    def __lt__(self, other: float) -> Condition:
        return Condition(self, "<", other)

    def __le__(self, other: float) -> Condition:
        return Condition(self, "<=", other)

    def __gt__(self, other: float) -> Condition:
        return Condition(self, ">", other)

    def __ge__(self, other: float) -> Condition:
        return Condition(self, ">=", other)

    def is_in(self, *values: object) -> Condition:
        """Return the condition that the column is one of ``values``."""
        return Condition(self, "in", tuple(values))


@dataclass(frozen=True)
class Condition:
    """A column compared with a constant; several conditions of one filter must all hold."""

    column: ColumnRef
    comparison: str
    value: Any
    location: Location = located()


KeyPart = Entity | ColumnRef
"""What may key an aggregate: an entity, a table's attribute of one, or a column of the event."""
