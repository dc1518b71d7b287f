"""What ``bowerbird explain`` answers, as data."""

from __future__ import annotations

from typing import Any

import msgspec


class EventRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event behind a value; times are ISO 8601 in UTC.

    ``weight`` is what a decaying count still gives it. ``fields`` are what a sequence or top-k keeps of it, as of the
    event. ``id`` and ``available`` are empty for a record that was taken back or forgotten since.
    """

    lsn: int
    type: str
    time: str
    id: str = ""
    available: str = ""
    retraction: bool = False
    weight: float | None = None
    values: dict[str, Any] = {}
    fields: dict[str, Any] = {}


class TileRow(msgspec.Struct, frozen=True):
    """One tile of a window: its start (ISO 8601), how many events it counts, and their sum."""

    start: str
    count: int
    sum: float


class StateExplanation(msgspec.Struct, frozen=True):
    """The state that a value was read from: an aggregate at a key, its events, and why others do not count.

    ``events`` are the latest of the ``counted`` ones. ``left_out`` counts the key's other events by reason.
    """

    aggregate: str
    fingerprint: str
    kind: str
    keys: dict[str, Any]
    counted: int
    left_out: dict[str, int]
    tiles: list[TileRow]
    events: list[EventRow]


class NodeExplanation(msgspec.Struct, frozen=True):
    """One operation: its value by the engine's replay and by the events listed, and what it was computed from."""

    operation: str
    value: Any
    from_events: Any
    agrees: bool
    state: StateExplanation | None
    inputs: list[NodeExplanation]


class FeatureExplanation(msgspec.Struct, frozen=True):
    """A feature's value in all its parts. ``logged`` is what was served, where a slate is explained."""

    feature: str
    kind: str
    stage: str
    description: str
    value: Any
    from_events: Any
    agrees: bool
    tree: NodeExplanation
    logged: Any = None
    records: int = 0


class Explanation(msgspec.Struct, frozen=True):
    """One exposure (or candidate of a slate) and its features as of its read.

    The read sees the records below ``read_lsn``, at ``read_time`` (ISO 8601); the log holds ``log_size``. ``agrees``:
    every value follows from the events listed (and is the one that was served).
    """

    identity: str
    user: Any
    item: Any
    read_lsn: int
    read_time: str
    log_size: int
    agrees: bool
    features: list[FeatureExplanation]
    seconds: float
