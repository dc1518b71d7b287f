"""The functions that users write features with; each returns an expression (``expressions.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bowerbird.declare.columns import ColumnRef, Entity, KeyPart
from bowerbird.declare.expressions import (
    Age,
    Aggregate,
    Bias,
    Category,
    CategoryExpression,
    Cross,
    Decay,
    Events,
    FeatureExpression,
    FunctionOf,
    Hour,
    Keys,
    Latest,
    Match,
    Number,
    NumberExpression,
    Rate,
    SequenceOf,
    Since,
    TopOf,
    Vector,
    Weekday,
    Window,
)
from bowerbird.declare.records import EventFilter

__all__ = [
    "Decay",
    "Events",
    "FeatureExpression",
    "Keys",
    "Rate",
    "Window",
    "age",
    "bias",
    "category",
    "count",
    "cross",
    "deviation",
    "function",
    "hour",
    "latest",
    "match",
    "maximum",
    "mean",
    "minimum",
    "number",
    "rate",
    "sequence",
    "since",
    "since_first",
    "top",
    "total",
    "vector",
    "weekday",
]


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


def count(events: Events, by: Keys = (), window: Window = "all", ttl: str | None = None) -> Aggregate:
    """Return how many past events the key had within the window (all keys together: ``by=()``).

    With ``ttl`` (window ``"all"`` only) the key's count starts anew once so long has passed without an event.
    """
    return Aggregate("count", _events(events), _keys(by), window, ttl=ttl)


def total(
    events: Events,
    value: ColumnRef,
    by: Keys = (),
    window: Window = "all",
    scale: int = 1000,
    ttl: str | None = None,
) -> Aggregate:
    """Return the sum of a NUMBER column, in fixed point with ``scale`` steps per unit; ``ttl`` as for ``count``."""
    return Aggregate("sum", _events(events), _keys(by), window, value, scale, ttl)


def mean(
    events: Events,
    value: ColumnRef,
    by: Keys = (),
    window: Window = "all",
    scale: int = 1000,
    ttl: str | None = None,
) -> Aggregate:
    """Return the mean of a NUMBER column over past events; NaN where there was none. ``ttl`` as for ``count``."""
    return Aggregate("mean", _events(events), _keys(by), window, value, scale, ttl)


def minimum(
    events: Events,
    value: ColumnRef,
    by: Keys = (),
    window: Window = "all",
    scale: int = 1000,
    ttl: str | None = None,
) -> Aggregate:
    """Return the smallest value of a NUMBER column, in steps of 1 / ``scale``; NaN where there was none.

    ``window`` is a duration or ``"all"``. A retraction does not take a smallest value back.
    """
    return Aggregate("min", _events(events), _keys(by), window, value, scale, ttl)


def maximum(
    events: Events,
    value: ColumnRef,
    by: Keys = (),
    window: Window = "all",
    scale: int = 1000,
    ttl: str | None = None,
) -> Aggregate:
    """Return the largest value of a NUMBER column, in steps of 1 / ``scale``; NaN where there was none.

    ``window`` is a duration or ``"all"``. A retraction does not take a largest value back.
    """
    return Aggregate("max", _events(events), _keys(by), window, value, scale, ttl)


def deviation(
    events: Events,
    value: ColumnRef,
    by: Keys = (),
    window: Window = "all",
    scale: int = 1000,
    ttl: str | None = None,
) -> Aggregate:
    """Return the standard deviation (of the population) of a NUMBER column; 0 for one event, NaN for none.

    ``window`` is a duration or ``"all"``. Values are limited to 2^45 / ``scale``, so that squares stay exact.
    """
    return Aggregate("std", _events(events), _keys(by), window, value, scale, ttl)


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


def since(events: Events, by: Keys = (), ttl: str | None = None) -> Since:
    """Return the seconds since the key's last event; NaN where there was none, or none within ``ttl``."""
    return Since(_events(events), _keys(by), "last", ttl)


def since_first(events: Events, by: Keys = (), ttl: str | None = None) -> Since:
    """Return the seconds since the key's first event; NaN where there was none.

    With ``ttl`` it is the first event since the last gap of so long a time.
    """
    return Since(_events(events), _keys(by), "first", ttl)


def latest(events: Events, value: KeyPart, by: Keys = (), ttl: str | None = None) -> Latest:
    """Return a value of the key's latest event: a number, or a category that shares the column's embedding.

    It is missing (key 0, NaN) where there was no event, none within ``ttl``, or the latest one lacks the value.
    """
    return Latest(_events(events), value, _keys(by), ttl)


def age(value: ColumnRef) -> Age:
    """Return the seconds since the time held by a NUMBER column (seconds since 1970)."""
    return Age(value)


def sequence(
    events: Events,
    by: Keys,
    length: int,
    fields: Sequence[KeyPart],
    distinct: bool = False,
    ttl: str | None = None,
) -> SequenceOf:
    """Return the key's last events, oldest first, with fields as of each event.

    ``distinct`` keeps only the latest event for each value of the first field. With ``ttl`` the sequence starts
    anew once so long has passed without an event.
    """
    return SequenceOf(_events(events), _keys(by), length, tuple(fields), distinct, ttl)


def top(events: Events, field: KeyPart, by: Keys, k: int, capacity: int | None = None, ttl: str | None = None) -> TopOf:
    """Return the ``k`` values of a category that the key's events had most, best last, with ``count`` and age.

    A key counts at most ``capacity`` values (default: 4 ``k``, and 32 at least); where a new one finds no room, the
    least counted makes it. Among equal counts the value seen last is the better one.
    """
    return TopOf(_events(events), field, _keys(by), k, max(32, 4 * k) if capacity is None else capacity, ttl)


def match(source: SequenceOf | TopOf, field: KeyPart, candidate: KeyPart | None = None, what: str = "count") -> Match:
    """Return how often, or how long ago, the candidate's value stands in a sequence's field or a top's values.

    ``what`` is ``"count"``, ``"fraction"`` (of all events kept; NaN where there are none) or ``"since"`` (seconds since
    the latest such event; NaN where there is none). A top answers from every value that it counts.
    """
    return Match(source, field, field if candidate is None else candidate, what)


def vector(value: ColumnRef) -> Vector:
    """Return a VECTOR column of a table, as of the request: float32 of the column's width, NaN where unknown."""
    return Vector(value)


def bias(value: ColumnRef, serve: str | float | bool | None) -> Bias:
    """Return a column of the exposure that would leak in serving, such as the position an item was shown at.

    Training sees the logged value; serving always reads ``serve``, whatever the request says.
    """
    return Bias(value, serve)


def function(
    path: str,
    *inputs: CategoryExpression | NumberExpression,
    output: Literal["number", "category"] = "number",
) -> FunctionOf:
    """Return what your own vectorised function makes of other features' columns, one row per candidate.

    ``path`` is ``"module:name"``, imported from the project's folder; the SHA-256 of the module's source is part of the
    plan. It takes one array per input, float32 numbers or uint64 keys of equal length, and returns one of that length.
    """
    return FunctionOf(path, inputs, output)
