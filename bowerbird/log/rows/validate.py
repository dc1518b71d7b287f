"""One live event, as an app reports it in JSON: the same rules as for ingested rows, compiled per type.

An event is flat: ``type``, then optionally ``id``, ``time``, ``slate_id`` and (exposures) ``position``, then
the declared entities and columns by name. Without a time it happens now; without an id it gets one made of
its type, entities and time. With ``"retracts": true`` it takes back the event of the same type, id, time and values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bowerbird.declare.columns import ColumnType, PlainType, VectorType
from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Table
from bowerbird.errors import InputError
from bowerbird.log.retractions import retraction_id
from bowerbird.log.rows.faults import EARLIEST
from bowerbird.log.rows.identity import join_key_values
from bowerbird.log.rows.timestamps import instant
from bowerbird.log.rows.vectors import live_vector
from bowerbird.log.schema import ID, RETRACTS, SLATE, TIME, expected, key_types, value_types
from bowerbird.log.slate_id import read_slate_id
from bowerbird.plan.mistake import nearest

Value = str | int | float | bool | list[float]
_Coercion = Callable[[Any], Value | None]

_RESERVED = ("type", "id", "time", "retracts")
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INT64 = range(-(2**63), 2**63)
_FLAGS: dict[Any, bool] = {0: False, 1: True, "0": False, "1": True, "true": True, "false": False}
TOLERANCE = microseconds("15m")
"""How far after now an event may lie, in microseconds: what senders' clocks may be ahead. Further is the future.

A few minutes move windows by as much for the keys of that event; a day would empty them.
"""


class EventValidator:
    """Checks and normalises the live events of a project."""

    def __init__(self, project: Project, tolerance: int = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._forms = {record.name: _Form(record) for record in project.record_types}

    def validate(self, event: Mapping[str, Any], now: int) -> dict[str, Any]:
        """Return the record: ``_type``, ``_id``, ``_time`` (microseconds), and what it names.

        A retraction also has ``_retracts``, True. Raises InputError with the field, its value and the remedy.
        """
        name = event.get("type")
        form = self._forms.get(name) if isinstance(name, str) else None
        if form is None:
            raise InputError(f"The event's type is {name!r}, which is not declared.", nearest(str(name), self._forms))
        time = now if event.get("time") is None else self._time(event["time"], now)
        record = form.normalise(event, time)
        return form.retraction(event, record) if "retracts" in event else record

    def _time(self, value: Any, now: int) -> int:
        time = _parse_time(value)
        if time is None:
            raise InputError(f"time is {value!r}.", "Write ISO 8601 text, or whole microseconds since 1970.")
        if time < EARLIEST:
            raise InputError(f"time is {value!r}, before 1990.", "Numbers are microseconds since 1970 UTC.")
        if time > now + self._tolerance:
            raise InputError(
                f"time is {value!r}, an event from the future.",
                "Check the unit, the zone and the sender's clock.",
            )
        return time


class _Form:
    """The fields of one record type, with how each is coerced."""

    def __init__(self, record: Event | Table) -> None:
        self._name = record.name
        self._is_event = isinstance(record, Event)
        self._keys = key_types(record)
        types = self._keys | value_types(record)
        self._fields = {name: (_coercion(kind), expected(kind)) for name, kind in types.items()}
        self._echoes_slate = isinstance(record, Event) and SLATE not in record.columns
        self._ambiguous = [name for name in _RESERVED if name in types]

    def normalise(self, event: Mapping[str, Any], time: int) -> dict[str, Any]:
        if self._ambiguous:
            raise InputError(
                f"{self._name!r} declares {self._ambiguous[0]!r}, which a live event has of its own.",
                "Rename that column in the project; `columns` of its source maps the new name to the file's.",
            )
        record: dict[str, Any] = {"_type": self._name, ID: "", TIME: time}
        for name, value in event.items():
            if value is None or name in _RESERVED:
                continue
            field = self._fields.get(name)
            if field is None:
                raise InputError(f"{self._name!r} has no field {name!r}.", nearest(name, [*_RESERVED, *self._fields]))
            coerced = field[0](value)
            if coerced is None:
                raise InputError(f"{name} of {self._name!r} is {value!r}.", f"Its declared type is {field[1]}.")
            if coerced != "":
                record[name] = coerced
        for name in self._keys:
            if name not in record:
                raise InputError(f"{self._name!r} has no {name!r}.", f"Say which {name} it belongs to.")
        if self._echoes_slate and SLATE in record:
            read_slate_id(record[SLATE])
        record[ID] = self._identifier(event.get("id"), record)
        return record

    def retraction(self, event: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
        """Return the record as a retraction where the event says so."""
        retracts = _to_flag(event["retracts"])
        if retracts is None and event["retracts"] is not None:
            raise InputError(f"retracts of {self._name!r} is {event['retracts']!r}.", "Write true, or leave it out.")
        if not retracts:
            return record
        if not self._is_event:
            raise InputError(
                f"{self._name!r} is a table: its rows are not taken back.", "Send the row as it now holds."
            )
        if event.get("time") is None:
            raise InputError(
                f"A retraction of {self._name!r} has no time.", "Repeat the time, id and values of what it takes back."
            )
        return record | {ID: retraction_id(record[ID]), RETRACTS: True}

    def _identifier(self, given: Any, record: dict[str, Any]) -> str:
        if given is None or given == "":
            return join_key_values([self._name, *(record[name] for name in self._keys), record[TIME]])
        identifier = _to_text(given)
        if identifier is None:
            raise InputError(f"id of {self._name!r} is {given!r}.", "Write a text or a whole number.")
        return identifier


def validate_event(project: Project, event: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return one live event as a record; see ``EventValidator.validate``."""
    return _validator(project).validate(event, now)


_latest: tuple[Project, EventValidator] | None = None


def _validator(project: Project) -> EventValidator:
    """Return the project's validator, compiled once while the same project is asked for."""
    global _latest
    latest = _latest
    if latest is None or latest[0] is not project:
        latest = _latest = (project, EventValidator(project))
    return latest[1]


def _parse_time(value: Any) -> int | None:
    if type(value) is int:
        return value
    if not isinstance(value, str):
        return None
    try:
        return instant(datetime.fromisoformat(value), UTC)
    except ValueError:
        return None


def _to_text(value: Any) -> str | None:
    if type(value) is str:
        return value if value.isascii() or _is_unicode(value) else None
    return str(value) if type(value) is int else None


def _is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which neither the log nor a key could hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_integer(value: Any) -> int | None:
    if (type(value) is str and _WHOLE.fullmatch(value)) or (
        type(value) is float and value.is_integer() and abs(value) <= 2**53
    ):
        value = int(value)
    return value if type(value) is int and value in _INT64 else None


def _to_flag(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    if type(value) is str:
        value = value.lower()
    return _FLAGS.get(value) if type(value) in (str, int, float) else None


def _to_number(value: Any) -> float | None:
    if type(value) is str and _DECIMAL.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float):
        return None
    try:
        number = float(value) + 0.0
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _coercion(kind: PlainType) -> _Coercion:
    return partial(live_vector, width=kind.width) if isinstance(kind, VectorType) else _COERCIONS[kind]


_COERCIONS: dict[ColumnType, _Coercion] = {
    ColumnType.TEXT: _to_text,
    ColumnType.INTEGER: _to_integer,
    ColumnType.FLAG: _to_flag,
    ColumnType.NUMBER: _to_number,
}
