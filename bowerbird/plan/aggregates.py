"""From events, keys and a window to an aggregate's state."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from bowerbird.declare import expressions as f
from bowerbird.declare.columns import ColumnRef, Entity, KeyPart, Location
from bowerbird.declare.durations import microseconds
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.feeds import FeedBuilder
from bowerbird.plan.mistake import Mistake, nearest
from bowerbird.plan.spec import Aggregate, Family, Feed

_TILES = (12, 24, 28, 10, 20, 30, 7, 6, 5, 4, 3, 2, 1)
_SHORTEST_TILE = 1_000_000
"""Microseconds: a tile's index, counted from 1970, is kept in 32 bits."""
_LONGEST_TIME = 1 << 53
_LONGEST = 10_000
_LARGEST_SCALE = 1 << 40
_PARTS: dict[str, list[str]] = {
    "count": [],
    "sum": ["sum"],
    "mean": ["sum"],
    "min": ["minimum"],
    "max": ["maximum"],
    "std": ["sum", "squares"],
}
"""What a tile or a total keeps beside its count, by what is read from it."""


def tile_of(window: int) -> int:
    """Return the tile of a window (microseconds): 5 min for 1 h, 1 h for 1 d, 6 h for 7 d."""
    hour = 3_600_000_000
    preferred = 12 if window <= hour else 24 if window <= 24 * hour else 28
    for tiles in (preferred, *_TILES):
        if window % tiles == 0:
            return window // tiles
    return window


class AggregateBuilder:
    """Builds aggregates and key families, each once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.aggregates: list[Aggregate] = []
        self.families: list[Family] = []
        self._feeds = FeedBuilder(catalog)
        self._by_fingerprint: dict[str, int] = {}

    def windowed(self, expression: f.Aggregate) -> int:
        """Return the index of the aggregate that counts events over a window and keeps parts of their values."""
        location, window = expression.location, expression.window
        parts = _parts(expression)
        scale = _scale(expression.scale, location) if expression.value is not None else 1
        ttl = _ttl(expression.ttl, location)
        feeds = self._feeds_of(expression, expression.value)
        if ttl and window != "all":
            remedy = 'Take window="all", or drop ttl: a window forgets by itself.'
            raise Mistake(location, f"ttl does not go with a window of {window!r}.", remedy)
        if isinstance(window, f.Decay):
            if expression.what not in ("count", "sum", "mean"):
                remedy = 'Take a window such as "7d" or "all"; count, total and mean decay.'
                raise Mistake(location, f"A {expression.what} does not decay.", remedy)
            half_life = _duration(window.half_life, window.location)
            return self._add("decayed", expression.by, feeds, location, half_life=half_life, scale=scale, parts=parts)
        if window == "all":
            return self._add("total", expression.by, feeds, location, scale=scale, parts=parts, ttl=ttl)
        length = _duration(window, location)
        if tile_of(length) < _SHORTEST_TILE:
            raise Mistake(location, f"A window of {window!r} is too short for tiles.", 'Give at least "30s".')
        sizes = {"window": length, "tile": tile_of(length), "scale": scale}
        return self._add("tiles", expression.by, feeds, location, parts=parts, **sizes)

    def instant(self, expression: f.Since) -> int:
        """Return the index of the aggregate that keeps the time of the last or the first event."""
        ttl = _ttl(expression.ttl, expression.location)
        feeds = self._feeds_of(expression)
        return self._add(expression.which, expression.by, feeds, expression.location, ttl=ttl)

    def sequence(self, expression: f.SequenceOf) -> int:
        """Return the index of the aggregate that keeps the last events with their fields."""
        location = expression.location
        length = _size(expression.length, "A sequence of length", location)
        if expression.distinct and not expression.fields:
            raise Mistake(location, "A distinct sequence has no fields.", "Name the field that is to differ.")
        return self._add(
            "sequence",
            expression.by,
            self._feeds_of(expression, fields=expression.fields),
            location,
            length=length,
            fields=len(expression.fields),
            distinct=bool(expression.distinct),
            ttl=_ttl(expression.ttl, location),
        )

    def latest(self, expression: f.Latest) -> int:
        """Return the index of the aggregate that keeps one value of the latest event: a sequence of length 1."""
        value = key_part_of(expression.value, expression.location)
        feeds = self._feeds_of(expression, fields=(value,))
        ttl = _ttl(expression.ttl, expression.location)
        return self._add("sequence", expression.by, feeds, expression.location, length=1, fields=1, ttl=ttl)

    def top(self, expression: f.TopOf) -> int:
        """Return the index of the aggregate that counts the values of a category."""
        location, field = expression.location, key_part_of(expression.field, expression.location)
        _size(expression.k, "A top of", location)
        capacity = _size(expression.capacity, "A top with capacity", location)
        if capacity < expression.k:
            remedy = f"Give at least {expression.k}, or drop capacity."
            raise Mistake(location, f"capacity {capacity} is less than k {expression.k}.", remedy)
        if not self.catalog.part_type(field).is_category:
            what = f"{self.catalog.name(field)!r} is a {self.catalog.part_type(field).value}, not a category."
            raise Mistake(location, what, "Count the values of a TEXT, INTEGER or FLAG column, or of an entity.")
        feeds = self._feeds_of(expression, fields=(field,))
        ttl = _ttl(expression.ttl, location)
        return self._add("top", expression.by, feeds, location, length=capacity, fields=1, ttl=ttl)

    def _feeds_of(
        self,
        expression: f.Aggregate | f.Since | f.SequenceOf | f.Latest | f.TopOf,
        value: ColumnRef | None = None,
        fields: tuple[KeyPart, ...] = (),
    ) -> list[Feed]:
        return [
            self._feeds.feed(event, expression.by, value, fields, expression.location) for event in expression.events
        ]

    def _add(self, kind: Any, by: tuple[KeyPart, ...], feeds: list[Feed], location: Location, **parameters: Any) -> int:
        if not feeds:
            raise Mistake(location, "No events are given.", "Name at least one event.")
        family = self._family(by)
        meaning = [
            kind,
            self.families[family].parts,
            [self._feeds.meaning(feed) for feed in feeds],
            _told_apart(parameters),
        ]
        fingerprint = hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:16]
        if fingerprint not in self._by_fingerprint:
            self._by_fingerprint[fingerprint] = len(self.aggregates)
            of = "+".join(self._feeds.title(feed) for feed in feeds)
            title = f"{kind}{_kept(parameters)} of {of} by {self.families[family].name}"
            self.aggregates.append(Aggregate(kind, family, feeds, fingerprint, title, **parameters))
        return self._by_fingerprint[fingerprint]

    def _family(self, by: tuple[KeyPart, ...]) -> int:
        parts = [self.catalog.name(part) for part in by]
        for index, family in enumerate(self.families):
            if family.parts == parts:
                return index
        self.families.append(Family(" × ".join(parts) or "global", parts))
        return len(self.families) - 1


def key_part_of(value: object, location: Location) -> Entity | ColumnRef:
    """Return the value as a key part; raises Mistake."""
    if isinstance(value, Entity | ColumnRef):
        return value
    raise Mistake(location, f"{value!r} is not an entity or a column.", 'Write `user` or `videos["tag"]`.')


def _told_apart(parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the parameters that an aggregate's meaning needs: what came later stands only where it is used."""
    usual: dict[str, list[Any]] = {"parts": [[], ["sum"]], "distinct": [False], "ttl": [0]}
    return sorted((name, value) for name, value in parameters.items() if value not in usual.get(name, []))


def _kept(parameters: dict[str, Any]) -> str:
    """Return what a title says of parameters that are not the usual ones."""
    told = dict(_told_apart(parameters))
    words = [*told.get("parts", []), *(["distinct"] if "distinct" in told else [])]
    return f" ({', '.join(words)})" if words else ""


def _parts(expression: f.Aggregate) -> list[str]:
    if expression.what not in _PARTS:
        raise Mistake(expression.location, f"There is no {expression.what!r}.", nearest(expression.what, _PARTS))
    return _PARTS[expression.what]


def _scale(scale: object, location: Location) -> int:
    if not isinstance(scale, int) or not 1 <= scale <= _LARGEST_SCALE:
        remedy = f"Give the steps per unit, 1 to {_LARGEST_SCALE}, as an integer."
        raise Mistake(location, f"scale {scale!r} is not possible.", remedy)
    return scale


def _size(size: object, what: str, location: Location) -> int:
    if not isinstance(size, int) or not 1 <= size <= _LONGEST:
        raise Mistake(location, f"{what} {size!r} is not possible.", f"Use 1 to {_LONGEST}.")
    return size


def _ttl(text: str | None, location: Location) -> int:
    return 0 if text is None else _duration(text, location, 'ttl is a duration such as "30d".')


def _duration(text: str, location: Location, remedy: str = 'Windows are "1h", "7d", "all" or Decay("6h").') -> int:
    try:
        length = microseconds(text)
    except ValueError as error:
        raise Mistake(location, f"{error}.", remedy) from error
    if length <= 0:
        raise Mistake(location, f"A time of {text!r} is empty.", "Give a positive duration.")
    if length > _LONGEST_TIME:
        raise Mistake(location, f"A time of {text!r} is too long.", 'Give at most 285 years, or "all".')
    return length
