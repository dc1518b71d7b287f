"""Feature expressions: one small class per operation; ``features.py`` has the functions that make them.

Categories are 64-bit keys, numbers are float32 (NaN where unknown), sequences are lists of events or of counted
values, vectors float32 of a fixed width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """A count, or a sum, mean, min, max or std of a value, over past events of one key."""

    what: str
    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    window: Window
    value: ColumnRef | None = None
    scale: int = 1000
    ttl: str | None = None
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
    """Seconds since the key's ``last`` or ``first`` event; NaN where there was none."""

    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    which: Literal["last", "first"] = "last"
    ttl: str | None = None
    location: Location = located()


@dataclass(frozen=True)
class Age(NumberOperations):
    """Seconds since a NUMBER column that holds a time in seconds since 1970 (an upload time, say)."""

    value: ColumnRef
    location: Location = located()


@dataclass(frozen=True)
class Latest(NumberOperations):
    """A value of the key's latest event: a category, or a number."""

    events: tuple[EventFilter, ...]
    value: KeyPart
    by: tuple[KeyPart, ...]
    ttl: str | None = None
    location: Location = located()


@dataclass(frozen=True)
class Bias(NumberOperations):
    """A column of the exposure that only training sees as it was; serving reads ``serve`` in its place."""

    value: ColumnRef
    serve: object
    location: Location = located()


@dataclass(frozen=True)
class Match(NumberOperations):
    """How the candidate's value meets a sequence's field or a top: ``count``, ``fraction`` or ``since`` (seconds)."""

    source: SequenceOf | TopOf
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
    """The key's last ``length`` events, oldest first, with fields as of each event, and their ages.

    ``distinct`` keeps only the latest event for each value of the first field.
    """

    events: tuple[EventFilter, ...]
    by: tuple[KeyPart, ...]
    length: int
    fields: tuple[KeyPart, ...]
    distinct: bool = False
    ttl: str | None = None
    location: Location = located()


@dataclass(frozen=True)
class TopOf:
    """The ``k`` values of a field that the key's events had most, with counts, the most frequent last.

    At most ``capacity`` values are counted for a key.
    """

    events: tuple[EventFilter, ...]
    field: KeyPart
    by: tuple[KeyPart, ...]
    k: int
    capacity: int
    ttl: str | None = None
    location: Location = located()


@dataclass(frozen=True)
class Vector:
    """A VECTOR column of a table, as of the request; NaN where unknown."""

    value: ColumnRef
    location: Location = located()


@dataclass(frozen=True)
class FunctionOf:
    """The result of a user's own function (``module:name``) of other features' columns."""

    path: str
    inputs: tuple[CategoryExpression | NumberExpression, ...]
    output: Literal["number", "category"]
    location: Location = located()


CategoryExpression = Category | Cross | Hour | Weekday | Bucketise | Latest | Bias
NumberExpression = Number | Aggregate | Rate | Since | Age | Latest | Bias | Match | Transform | Standardise | Combine
FeatureExpression = CategoryExpression | NumberExpression | SequenceOf | TopOf | Vector | FunctionOf

Events = EventFilter | Sequence[EventFilter]
"""An event, events with conditions, or a list of them."""
Keys = KeyPart | Sequence[KeyPart]
"""What keys an aggregate: one part or a list of them; ``()`` takes all keys together."""
