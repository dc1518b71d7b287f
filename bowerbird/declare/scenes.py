"""Labels and scenes: what is predicted, and the placements that ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bowerbird.declare.columns import Entity, Location, located
from bowerbird.declare.degradation import DegradationStep
from bowerbird.declare.records import EventFilter


@dataclass(frozen=True)
class Label:
    """An event joined to an exposure within an attribution window: 1 if it happened, else 0.

    A sample is mature once ``within`` (and the event's declared delay) passed after its exposure; before
    that a missing event is unknown, never a negative. A label may be ``given`` another one that must
    happen first (conversion given click): ESMM trains on the whole space with it.
    """

    name: str
    event: EventFilter
    within: str
    given: Label | None = None
    location: Location = located()


@dataclass(frozen=True)
class Popular:
    """Recall channel: the items with most of these events in a trailing window."""

    event: EventFilter
    window: str = "7d"
    count: int = 200
    location: Location = located()


@dataclass(frozen=True)
class CoVisitation:
    """Recall channel: items that the same users acted on near the user's latest items."""

    event: EventFilter
    window: str = "1d"
    neighbours: int = 50
    history: int = 20
    count: int = 200
    location: Location = located()


RecallChannel = Popular | CoVisitation


@dataclass(frozen=True)
class Diversity:
    """At most ``limit`` items with one value of an item attribute (``table["column"]``) in a slate."""

    attribute: object
    limit: int
    location: Location = located()


@dataclass(frozen=True)
class Scene:
    """A placement with its own pipeline: home feed, search, ads slot.

    ``weights`` combine the labels' calibrated scores into the ranking score (default: the first label).
    ``seen`` names events whose items are not shown to the same user again. A request has ``deadline`` (``"200ms"``;
    default: the server's setting) unless it says another; when the server has more work than it can answer in time,
    the scene goes down ``degrade`` step by step, each on top of those before it.
    """

    name: str
    user: Entity
    item: Entity
    labels: Sequence[Label]
    recall: Sequence[RecallChannel] = ()
    seen: Sequence[EventFilter] = ()
    weights: dict[str, float] = field(default_factory=dict)
    diversity: Diversity | None = None
    slate_size: int = 20
    deadline: str = ""
    degrade: Sequence[DegradationStep] = ()
    location: Location = located()
