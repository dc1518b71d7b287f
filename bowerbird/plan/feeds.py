"""From an event with conditions to a feed: where an aggregate finds its key, value and fields in a record."""

from __future__ import annotations

from typing import Any

from bowerbird.declare.columns import ColumnRef, ColumnType, Condition, KeyPart, Location, PlainType, VectorType
from bowerbird.declare.records import Event, EventFilter, FilteredEvent
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.mistake import Mistake, nearest
from bowerbird.plan.spec import Feed, Path, Test


def value_key(value: Any, column_type: PlainType, location: Location) -> int:
    """Return the 64-bit key of a constant of a category type; raises Mistake on another type."""
    if column_type is ColumnType.TEXT and isinstance(value, str):
        return key_text(value)
    if column_type is ColumnType.FLAG and isinstance(value, bool | int) and int(value) in (0, 1):
        return key_integer(int(value))
    if column_type is ColumnType.INTEGER and isinstance(value, int) and not isinstance(value, bool):
        return key_integer(value)
    raise Mistake(
        location,
        f"{value!r} is not a value of a column of type {column_type.value}.",
        "Compare like with like.",
    )


def number_value(value: Any, location: Location) -> float:
    """Return a constant of a NUMBER column; raises Mistake on anything but a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mistake(location, f"{value!r} is not a number.", "Give a NUMBER column a number.")
    return float(value)


class FeedBuilder:
    """Builds feeds and says what they mean apart from a plan's indices."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def feed(
        self,
        events: EventFilter,
        by: tuple[KeyPart, ...],
        value: ColumnRef | None,
        fields: tuple[KeyPart, ...],
        location: Location,
    ) -> Feed:
        """Return the feed of one event; raises Mistake where a key, value or field is not to be had from it."""
        event, conditions = (events.event, events.conditions) if isinstance(events, FilteredEvent) else (events, ())
        if not isinstance(event, Event):
            raise Mistake(location, f"{event!r} is not an event.", "Give an event, or a list of events.")
        if event.name not in self.catalog.records:
            remedy = nearest(event.name, self.catalog.records)
            raise Mistake(location, f"Event {event.name!r} is not part of the project.", f"Add it to events. {remedy}")
        return Feed(
            type=self.catalog.type_index[event.name],
            keys=[self.catalog.path(part, event, location) for part in by],
            tests=[self._test(condition, event) for condition in conditions],
            value=self._value_path(value, event, location),
            fields=[self._field_path(part, event, location) for part in fields],
        )

    def meaning(self, feed: Feed) -> list[Any]:
        """Return the feed in names, for a fingerprint."""
        records = list(self.catalog.records)
        return [
            records[feed.type],
            [self._path_meaning(path) for path in feed.keys],
            [[self._path_meaning(t.path), t.comparison, t.keys, t.numbers] for t in feed.tests],
            self._path_meaning(feed.value) if feed.value else None,
            [self._path_meaning(path) for path in feed.fields],
        ]

    def title(self, feed: Feed) -> str:
        """Return the event's name, and whether it is filtered."""
        name = list(self.catalog.records)[feed.type]
        return f"{name} (filtered)" if feed.tests else name

    def _value_path(self, value: ColumnRef | None, event: Event, location: Location) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, ColumnRef) or self.catalog.column_type(value) is not ColumnType.NUMBER:
            name = getattr(value, "column", value)
            raise Mistake(location, f"Column {name!r} is not a NUMBER.", "Only numbers are summed.")
        return self.catalog.path(value, event, location)

    def _field_path(self, part: KeyPart, event: Event, location: Location) -> Path:
        path = self.catalog.path(part, event, location)
        if isinstance(self.catalog.part_type(part), VectorType):
            remedy = "Keep a category, and give the model the vectors of the candidates with vector(...)."
            raise Mistake(location, f"{self.catalog.name(part)!r} is a vector: state keeps none.", remedy)
        return path

    def _test(self, condition: Condition, event: Event) -> Test:
        if not isinstance(condition, Condition):
            raise Mistake(event.location, f"{condition!r} is not a condition.", 'Write `event["column"] >= 3`.')
        column_type = self.catalog.column_type(condition.column)
        path = self.catalog.path(condition.column, event, condition.location)
        values = condition.value if condition.comparison == "in" else (condition.value,)
        if column_type is ColumnType.NUMBER:
            numbers = [number_value(value, condition.location) for value in values]
            return Test(path, condition.comparison, numbers=numbers)  # type: ignore[arg-type]
        if condition.comparison not in ("==", "!=", "in"):
            remedy = "Use ==, != or is_in, or declare the column NUMBER."
            raise Mistake(condition.location, f"{column_type.value} has no order for {condition.comparison}.", remedy)
        keys = [value_key(value, column_type, condition.location) for value in values]
        return Test(path, condition.comparison, keys=keys)  # type: ignore[arg-type]

    def _path_meaning(self, path: Path) -> list[str]:
        return [self.catalog.slots[path.slot].name, *(self.catalog.slots[hop.slot].name for hop in path.hops)]
