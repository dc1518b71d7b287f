"""From events, keys and a window to an aggregate's state."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from bowerbird.declare.columns import ColumnRef, ColumnType, Condition, Entity, KeyPart, Location
from bowerbird.declare.durations import microseconds
from bowerbird.declare.expressions import Decay, Window
from bowerbird.declare.records import Event, EventFilter, FilteredEvent
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.mistake import Mistake, nearest
from bowerbird.plan.spec import Aggregate, Family, Feed, Path, Test

_TILES = (12, 24, 28, 10, 20, 30, 7, 6, 5, 4, 3, 2, 1)


def tile_of(window: int) -> int:
    """Return the tile of a window (microseconds): 5 min for 1 h, 1 h for 1 d, 6 h for 7 d."""
    hour = 3_600_000_000
    preferred = 12 if window <= hour else 24 if window <= 24 * hour else 28
    for tiles in (preferred, *_TILES):
        if window % tiles == 0:
            return window // tiles
    return window


def value_key(value: Any, column_type: ColumnType, location: Location) -> int:
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


class AggregateBuilder:
    """Builds aggregates and key families, each once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.aggregates: list[Aggregate] = []
        self.families: list[Family] = []
        self._by_fingerprint: dict[str, int] = {}

    def windowed(
        self,
        events: tuple[EventFilter, ...],
        by: tuple[KeyPart, ...],
        window: Window,
        value: ColumnRef | None,
        scale: int,
        location: Location,
    ) -> int:
        """Return the index of the aggregate that counts (and sums) events over a window."""
        feeds = [self._feed(event, by, value, (), location) for event in events]
        if isinstance(window, Decay):
            return self._add(
                "decayed", by, feeds, location, half_life=_duration(window.half_life, window.location)
            )
        if window == "all":
            return self._add("total", by, feeds, location, scale=scale)
        length = _duration(window, location)
        return self._add("tiles", by, feeds, location, window=length, tile=tile_of(length), scale=scale)

    def last(self, events: tuple[EventFilter, ...], by: tuple[KeyPart, ...], location: Location) -> int:
        """Return the index of the aggregate that keeps the time of the last event."""
        return self._add(
            "last", by, [self._feed(event, by, None, (), location) for event in events], location
        )

    def sequence(
        self,
        events: tuple[EventFilter, ...],
        by: tuple[KeyPart, ...],
        length: int,
        fields: tuple[KeyPart, ...],
        location: Location,
    ) -> int:
        """Return the index of the aggregate that keeps the last events with their fields."""
        if not isinstance(length, int) or not 1 <= length <= 10_000:
            raise Mistake(location, f"A sequence of length {length!r} is not possible.", "Use 1 to 10000.")
        feeds = [self._feed(event, by, None, fields, location) for event in events]
        return self._add("sequence", by, feeds, location, length=length, fields=len(fields))

    def read_paths(self, by: tuple[KeyPart, ...], location: Location) -> list[Path]:
        """Return where a request holds the keys."""
        return [self.catalog.path(part, self.catalog.project.exposure, location) for part in by]

    def _feed(
        self,
        events: EventFilter,
        by: tuple[KeyPart, ...],
        value: ColumnRef | None,
        fields: tuple[KeyPart, ...],
        location: Location,
    ) -> Feed:
        event, conditions = (
            (events.event, events.conditions) if isinstance(events, FilteredEvent) else (events, ())
        )
        if not isinstance(event, Event):
            raise Mistake(location, f"{event!r} is not an event.", "Give an event, or a list of events.")
        if event.name not in self.catalog.records:
            remedy = nearest(event.name, self.catalog.records)
            raise Mistake(
                location, f"Event {event.name!r} is not part of the project.", f"Add it to events. {remedy}"
            )
        return Feed(
            type=self.catalog.type_index[event.name],
            keys=[self.catalog.path(part, event, location) for part in by],
            tests=[self._test(condition, event) for condition in conditions],
            value=self._value_path(value, event, location),
            fields=[self.catalog.path(part, event, location) for part in fields],
        )

    def _value_path(self, value: ColumnRef | None, event: Event, location: Location) -> Path | None:
        if value is None:
            return None
        if self.catalog.column_type(value) is not ColumnType.NUMBER:
            raise Mistake(location, f"Column {value.column!r} is not a NUMBER.", "Only numbers are summed.")
        return self.catalog.path(value, event, location)

    def _test(self, condition: Condition, event: Event) -> Test:
        if not isinstance(condition, Condition):
            raise Mistake(
                event.location, f"{condition!r} is not a condition.", 'Write `event["column"] >= 3`.'
            )
        column_type = self.catalog.column_type(condition.column)
        path = self.catalog.path(condition.column, event, condition.location)
        values = condition.value if condition.comparison == "in" else (condition.value,)
        if column_type is ColumnType.NUMBER:
            return Test(path, condition.comparison, numbers=[_number(v, condition.location) for v in values])  # type: ignore[arg-type]
        if condition.comparison not in ("==", "!=", "in"):
            remedy = "Use ==, != or is_in, or declare the column NUMBER."
            raise Mistake(
                condition.location, f"{column_type.value} has no order for {condition.comparison}.", remedy
            )
        keys = [value_key(value, column_type, condition.location) for value in values]
        return Test(path, condition.comparison, keys=keys)  # type: ignore[arg-type]

    def _add(
        self, kind: Any, by: tuple[KeyPart, ...], feeds: list[Feed], location: Location, **sizes: int
    ) -> int:
        if not feeds:
            raise Mistake(location, "No events are given.", "Name at least one event.")
        family = self._family(by)
        meaning = [
            kind,
            self.families[family].parts,
            [self._meaning(feed) for feed in feeds],
            sorted(sizes.items()),
        ]
        fingerprint = hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:16]
        if fingerprint not in self._by_fingerprint:
            self._by_fingerprint[fingerprint] = len(self.aggregates)
            title = f"{kind} of {'+'.join(self._feed_title(feed) for feed in feeds)} by {self.families[family].name}"
            self.aggregates.append(Aggregate(kind, family, feeds, fingerprint, title, **sizes))
        return self._by_fingerprint[fingerprint]

    def _family(self, by: tuple[KeyPart, ...]) -> int:
        parts = [self.catalog.name(part) for part in by]
        for index, family in enumerate(self.families):
            if family.parts == parts:
                return index
        self.families.append(Family(" × ".join(parts) or "global", parts))
        return len(self.families) - 1

    def _path_meaning(self, path: Path) -> list[str]:
        return [self.catalog.slots[path.slot].name, *(self.catalog.slots[hop.slot].name for hop in path.hops)]

    def _meaning(self, feed: Feed) -> list[Any]:
        records = list(self.catalog.records)
        return [
            records[feed.type],
            [self._path_meaning(path) for path in feed.keys],
            [[self._path_meaning(t.path), t.comparison, t.keys, t.numbers] for t in feed.tests],
            self._path_meaning(feed.value) if feed.value else None,
            [self._path_meaning(path) for path in feed.fields],
        ]

    def _feed_title(self, feed: Feed) -> str:
        name = list(self.catalog.records)[feed.type]
        return f"{name} (filtered)" if feed.tests else name


def _duration(text: str, location: Location) -> int:
    try:
        length = microseconds(text)
    except ValueError as error:
        raise Mistake(location, f"{error}.", 'Windows are "1h", "7d", "all" or Decay("6h").') from error
    if length <= 0:
        raise Mistake(location, f"A window of {text!r} is empty.", "Give a positive duration.")
    return length


def _number(value: Any, location: Location) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mistake(location, f"{value!r} is not a number.", "Compare a NUMBER column with a number.")
    return float(value)


def key_part_of(value: object, location: Location) -> Entity | ColumnRef:
    """Return the value as a key part; raises Mistake."""
    if isinstance(value, Entity | ColumnRef):
        return value
    raise Mistake(location, f"{value!r} is not an entity or a column.", 'Write `user` or `videos["tag"]`.')
