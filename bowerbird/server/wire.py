"""What requests and answers look like, as msgspec types; the OpenAPI page is made from them."""

from __future__ import annotations

from typing import Any

import msgspec

from bowerbird.bundles.manifest import Lineage
from bowerbird.bundles.way_choice import WayChoice
from bowerbird.plan.spec import Plan

Id = str | int
"""An identifier as the app writes it: text or integer."""


class Candidate(msgspec.Struct, forbid_unknown_fields=True):
    """A candidate with feature values of its own, which override the computed ones."""

    id: Id
    features: dict[str, Any] = {}


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who asks, in which context, about which candidates.

    ``features`` complete or override computed features for every candidate, by feature name. ``model`` names a
    live model where the scene could use several.
    """

    user: Id
    candidates: list[Id | Candidate]
    context: dict[str, Any] = {}
    features: dict[str, Any] = {}
    model: str = ""


class ModelVersion(msgspec.Struct):
    """Which version of which model answered."""

    name: str
    version: int


class ScoreAnswer(msgspec.Struct, omit_defaults=True):
    """Scores by label (probabilities) and the scene's ``ranking`` score, in the candidates' order.

    ``slate_id`` is to be echoed in the exposure events of what was shown; ``lsn`` counts the log records
    that the features reflect. ``degraded`` names the step of the scene's ladder that answered under load:
    ``fewer_candidates`` (those left out are null), ``cheaper_model``, or ``popularity`` (no model, no scores; counts
    rank). ``trace`` only when asked for.
    """

    slate_id: str
    model: ModelVersion | None
    lsn: int
    time: str
    scores: dict[str, list[float | None]]
    ranking: list[float | None]
    degraded: str = ""
    trace: dict[str, Any] | None = None


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who asks, in which context, for how many items (default: the scene's slate size)."""

    user: Id
    context: dict[str, Any] = {}
    features: dict[str, Any] = {}
    count: int | None = None
    exclude: list[Id] = []
    model: str = ""


class RecommendedItem(msgspec.Struct):
    """An item of a slate: its ranking score, its score by label, and the channels that recalled it."""

    item: Id
    score: float
    scores: dict[str, float]
    channels: list[str]


class RecommendAnswer(msgspec.Struct, omit_defaults=True):
    """A slate, best item first; ``degraded`` and ``trace`` as in a score answer."""

    slate_id: str
    model: ModelVersion | None
    lsn: int
    time: str
    items: list[RecommendedItem]
    degraded: str = ""
    trace: dict[str, Any] | None = None


class EventOutcome(msgspec.Struct, omit_defaults=True):
    """What became of one event: ``accepted``, ``duplicate`` or ``rejected`` (with the reason)."""

    status: str
    id: str = ""
    reason: str = ""


class EventsAnswer(msgspec.Struct):
    """Outcomes in the order of the events, and their counts. Accepted events are on disk."""

    accepted: int
    duplicate: int
    rejected: int
    events: list[EventOutcome]


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Several events in one request; a single event is an object of its own."""

    events: list[dict[str, Any]]


class EntityAnswer(msgspec.Struct):
    """An entity's features as of now, by model plan; a null is missing."""

    entity: str
    id: Id
    lsn: int
    time: str
    features: dict[str, Any]


class VersionAnswer(msgspec.Struct):
    """A published version: its stage, whether it answers now, where it comes from, its held-out metrics.

    ``served`` is the way that it answers by here, why, and what each way takes; null where it does not answer.
    """

    name: str
    version: int
    stage: str
    serving: bool
    kind: str
    digest: str
    created: str
    promoted: str | None
    lineage: Lineage
    metrics: dict[str, Any]
    served: WayChoice | None


class ModelAnswer(msgspec.Struct):
    """A model and its versions, newest first; ``live`` is the one that answers."""

    name: str
    live: int | None
    versions: list[VersionAnswer]


class ModelsAnswer(msgspec.Struct):
    """Every model of the registry."""

    models: list[ModelAnswer]


class SceneAnswer(msgspec.Struct):
    """A scene: its labels, weights, recall channels and slate size."""

    name: str
    labels: list[str]
    weights: dict[str, float]
    recall: list[str]
    seen: list[str]
    slate_size: int
    model: ModelVersion | None


class ScenesAnswer(msgspec.Struct):
    """Every scene of the project."""

    scenes: list[SceneAnswer]


class PlanAnswer(msgspec.Struct):
    """The plan of a live version."""

    model: ModelVersion
    fingerprint: str
    plan: Plan


class PlansAnswer(msgspec.Struct):
    """The plans of every live version."""

    plans: list[PlanAnswer]


class HealthAnswer(msgspec.Struct, omit_defaults=True):
    """Whether the process is well or ready, and why not."""

    status: str
    detail: str = ""
    lsn: int = 0


class ProblemDocument(msgspec.Struct):
    """An error (RFC 9457): what is wrong, and what to do about it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    instance: str
