"""Feature expressions: one small class per operation, and the functions that users write.

Categories are 64-bit keys, numbers are float32 (NaN where unknown), sequences are the last events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bowerbird.declare.columns import ColumnRef, Entity, KeyPart, Location, located
from bowerbird.declare.records import EventFilter


@dataclass(frozen=True)
class Decay:
    """An exponentially decayed window: an event's weight halves every ``half_life`` (``"6h"``)."""

    half_life: str
    location: Location = located()


Window = str | Decay
"""``"1h"``, ``"7d"``, ``"all"`` or a ``Decay``."""


@dataclass(frozen=True)
class Category:
    """A value taken as an identity: an entity's id, an attribute, a context column."""

    value: Entity | ColumnRef
    location: Location = located()


@dataclass(frozen=True)
class Cross:
    """The combination of several categories as one category."""

    inputs: Sequence[CategoryExpression]
    location: Location = located()


@dataclass(frozen=True)
class Hour:
    """Hour of the day (0..23) of the request, in an IANA time zone."""

    timezone: str = "UTC"
    location: Location = located()


@dataclass(frozen=True)
class Weekday:
    """Day of the week (0 is Monday) of the request, in an IANA time zone."""

    timezone: str = "UTC"
    location: Location = located()


class NumberOperations:
    """Transforms that every number expression offers."""

    def log1p(self) -> Transform:
        """Return log(1 + x) for x >= 0 and -log(1 - x) below zero."""
        return Transform(self, "log1p")  # type: ignore[arg-type]

    def clip(self, low: float, high: float) -> Transform:
        """Return x limited to [low, high]."""
        return Transform(self, "clip", (float(low), float(high)))  # type: ignore[arg-type]

    def standardise(self) -> Standardise:
        """Return (x - mean) / standard deviation, both fitted on records before the samples."""
        return Standardise(self)  # type: ignore[arg-type]

    def bucketise(self, quantiles: int = 0, boundaries: Sequence[float] = ()) -> Bucketise:
        """Return the bucket of x as a category: fitted quantiles or given ascending boundaries."""
        return Bucketise(self, quantiles, tuple(boundaries))  # type: ignore[arg-type]

    def __truediv__(self, other: NumberExpression) -> Combine:
        return Combine("ratio", self, other)  # type: ignore[arg-type]

    def __sub__(self, other: NumberExpression) -> Combine:
        return Combine("difference", self, other)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Number(NumberOperations):
    """A NUMBER column: an attribute as of the request, or a context column."""

    value: ColumnRef
    location: Location = located()


@dataclass(frozen=True)
class Aggregate(NumberOperations):
    """A count, sum or mean over past events of one key."""

    what: str
    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    window: Window
    value: ColumnRef | None = None
    scale: int = 1000
    location: Location = located()


@dataclass(frozen=True)
class Rate(NumberOperations):
    """(numerator + prior * strength) / (denominator + strength)."""

    numerator: Aggregate
    denominator: Aggregate
    prior: float
    strength: float
    location: Location = located()


@dataclass(frozen=True)
class Since(NumberOperations):
    """Seconds since the key's last event; NaN where there was none."""

    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    location: Location = located()


@dataclass(frozen=True)
class Age(NumberOperations):
    """Seconds since a NUMBER column that holds a time in seconds since 1970 (an upload time, say)."""

    value: ColumnRef
    location: Location = located()


@dataclass(frozen=True)
class Match(NumberOperations):
    """How the candidate's value meets a sequence's field: ``count``, ``fraction`` or ``since`` (seconds)."""

    sequence: SequenceOf
    field: KeyPart
    candidate: KeyPart
    what: str
    location: Location = located()


@dataclass(frozen=True)
class Transform(NumberOperations):
    """A fixed function of one number."""

    input: NumberExpression
    function: str
    parameters: tuple[float, ...] = ()
    location: Location = located()


@dataclass(frozen=True)
class Standardise(NumberOperations):
    """A number brought to zero mean and unit variance by fitted moments."""

    input: NumberExpression
    location: Location = located()


@dataclass(frozen=True)
class Combine(NumberOperations):
    """A ratio (NaN where the divisor is zero) or a difference of two numbers."""

    function: str
    left: NumberExpression
    right: NumberExpression
    location: Location = located()


@dataclass(frozen=True)
class Bucketise:
    """A number's bucket as a category."""

    input: NumberExpression
    quantiles: int
    boundaries: tuple[float, ...]
    location: Location = located()


@dataclass(frozen=True)
class SequenceOf:
    """The key's last ``length`` events, oldest first, with fields as of each event, and their ages."""

    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    length: int
    fields: tuple[KeyPart, ...]
    location: Location = located()


CategoryExpression = Category | Cross | Hour | Weekday | Bucketise
NumberExpression = Number | Aggregate | Rate | Since | Age | Match | Transform | Standardise | Combine
FeatureExpression = CategoryExpression | NumberExpression | SequenceOf

Events = EventFilter | Sequence[EventFilter]
Keys = KeyPart | Sequence[KeyPart]


def _events(events: Events) -> tuple[EventFilter, ...]:
    return tuple(events) if isinstance(events, Sequence) else (events,)


def _keys(by: Keys) -> tuple[KeyPart, ...]:
    return tuple(by) if isinstance(by, Sequence) else (by,)


def category(value: Entity | ColumnRef) -> Category:
    """Return the value as an identity: a 64-bit hashed key with a trained embedding."""
    return Category(value)


def number(value: ColumnRef) -> Number:
    """Return a NUMBER column as a quantity."""
    return Number(value)


def cross(*inputs: CategoryExpression) -> Cross:
    """Return the combination of categories as one category."""
    return Cross(inputs)


def hour(timezone: str = "UTC") -> Hour:
    """Return the hour of the day of the request."""
    return Hour(timezone)


def weekday(timezone: str = "UTC") -> Weekday:
    """Return the day of the week of the request, Monday first."""
    return Weekday(timezone)


def count(events: Events, by: Keys = (), window: Window = "all") -> Aggregate:
    """Return how many past events the key had within the window (all keys together: ``by=()``)."""
    return Aggregate("count", _events(events), _keys(by), window)


def total(
    events: Events, value: ColumnRef, by: Keys = (), window: Window = "all", scale: int = 1000
) -> Aggregate:
    """Return the sum of a NUMBER column, in fixed point with ``scale`` steps per unit."""
    return Aggregate("sum", _events(events), _keys(by), window, value, scale)


def mean(
    events: Events, value: ColumnRef, by: Keys = (), window: Window = "all", scale: int = 1000
) -> Aggregate:
    """Return the mean of a NUMBER column over past events; NaN where there was none."""
    return Aggregate("mean", _events(events), _keys(by), window, value, scale)


def rate(
    numerator: Events,
    denominator: Events,
    by: Keys = (),
    window: Window = "all",
    prior: float = 0.0,
    strength: float = 0.0,
) -> Rate:
    """Return the share of denominator events that had a numerator event, smoothed to ``prior``."""
    return Rate(count(numerator, by, window), count(denominator, by, window), prior, strength)


def since(events: Events, by: Keys = ()) -> Since:
    """Return the seconds since the key's last event."""
    return Since(_events(events), _keys(by))


def age(value: ColumnRef) -> Age:
    """Return the seconds since the time held by a NUMBER column (seconds since 1970)."""
    return Age(value)


def sequence(events: Events, by: Keys, length: int, fields: Sequence[KeyPart]) -> SequenceOf:
    """Return the key's last events, oldest first, with fields as of each event."""
    return SequenceOf(_events(events), _keys(by), length, tuple(fields))


def match(
    sequence_of: SequenceOf, field: KeyPart, candidate: KeyPart | None = None, what: str = "count"
) -> Match:
    """Return how often, or how long ago, the candidate's value stands in a sequence's field."""
    return Match(sequence_of, field, field if candidate is None else candidate, what)
