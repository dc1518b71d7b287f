"""What the server answers, as the client returns it."""

from __future__ import annotations

from typing import Any

import msgspec

Id = str | int


class ModelVersion(msgspec.Struct, frozen=True):
    """Which version of which model answered."""

    name: str
    version: int


class Scores(msgspec.Struct, frozen=True):
    """Scores by label and the ``ranking`` score, in the candidates' order; echo ``slate_id`` in exposures.

    ``degraded`` names the step of the scene's ladder that answered under load: then candidates that were left out are
    None, and an answer by popularity has no model.
    """

    slate_id: str
    model: ModelVersion | None
    lsn: int
    time: str
    scores: dict[str, list[float | None]]
    ranking: list[float | None]
    degraded: str = ""
    trace: dict[str, Any] | None = None


class RecommendedItem(msgspec.Struct, frozen=True):
    """An item of a slate with its scores and the channels that recalled it."""

    item: Id
    score: float
    scores: dict[str, float]
    channels: list[str]


class Slate(msgspec.Struct, frozen=True):
    """A recommendation, best item first; ``trace`` where it was asked for, ``degraded`` as in ``Scores``."""

    slate_id: str
    model: ModelVersion | None
    lsn: int
    time: str
    items: list[RecommendedItem]
    degraded: str = ""
    trace: dict[str, Any] | None = None


class EventOutcome(msgspec.Struct, frozen=True):
    """``accepted``, ``duplicate`` or ``rejected`` (with the reason)."""

    status: str
    id: str = ""
    reason: str = ""


class EventsReceipt(msgspec.Struct, frozen=True):
    """Outcomes in the order of the events, and their counts."""

    accepted: int
    duplicate: int
    rejected: int
    events: list[EventOutcome]


class EntityFeatures(msgspec.Struct, frozen=True):
    """An entity's features as of now."""

    entity: str
    id: Id
    lsn: int
    time: str
    features: dict[str, Any]


class PublishedVersion(msgspec.Struct, frozen=True):
    """A published version: its stage, whether it answers now, where it comes from, its held-out metrics.

    ``served`` says, while it answers, by which way, why, and what was measured of each.
    """

    name: str
    version: int
    stage: str
    serving: bool
    kind: str
    digest: str
    created: str
    promoted: str | None
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    served: dict[str, Any] | None = None


class PublishedModel(msgspec.Struct, frozen=True):
    """A model and its versions, newest first; ``live`` is the one that answers."""

    name: str
    live: int | None
    versions: list[PublishedVersion]


class ModelsListed(msgspec.Struct, frozen=True):
    """Every model of the registry."""

    models: list[PublishedModel]


class DeclaredScene(msgspec.Struct, frozen=True):
    """A scene: its labels, their weights, recall channels, slate size, and the model that answers."""

    name: str
    labels: list[str]
    weights: dict[str, float]
    recall: list[str]
    seen: list[str]
    slate_size: int
    model: ModelVersion | None


class ScenesListed(msgspec.Struct, frozen=True):
    """Every scene of the project."""

    scenes: list[DeclaredScene]


class LivePlan(msgspec.Struct, frozen=True):
    """The compiled plan of a live version."""

    model: ModelVersion
    fingerprint: str
    plan: dict[str, Any]


class PlansListed(msgspec.Struct, frozen=True):
    """The plans of every live version."""

    plans: list[LivePlan]
