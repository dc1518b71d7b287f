"""The server's nouns as calls: what both clients offer as methods of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from bowerbird.client.answers import (
    EntityFeatures,
    EventsReceipt,
    Id,
    ModelsListed,
    PlansListed,
    PublishedVersion,
    ScenesListed,
    Scores,
    Slate,
)
from bowerbird.client.call import Call, Repeat, json_body

Candidate = Id | Mapping[str, Any]
"""An item's id, or ``{"id": …, "features": {…}}``."""


def score(
    scene: str,
    user: Id,
    candidates: Sequence[Candidate],
    *,
    context: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    model: str = "",
) -> Call[Scores]:
    """Return a score per label for each candidate."""
    body = {
        "user": user,
        "candidates": candidates,
        "context": context or {},
        "features": features or {},
        "model": model,
    }
    return Call("POST", f"/v1/scenes/{_segment(scene)}/score", Scores, json_body(body))


def recommend(
    scene: str,
    user: Id,
    count: int | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    exclude: Sequence[Id] = (),
    model: str = "",
    trace: bool = False,
) -> Call[Slate]:
    """Return a slate of ``count`` items (default: the scene's slate size)."""
    body = {
        "user": user,
        "count": count,
        "context": context or {},
        "features": features or {},
        "exclude": exclude,
        "model": model,
    }
    query = "?trace=true" if trace else ""
    return Call("POST", f"/v1/scenes/{_segment(scene)}/recommend{query}", Slate, json_body(body))


def send_events(events: Sequence[Mapping[str, Any]]) -> Call[EventsReceipt]:
    """Report events; those accepted are on the server's disk. Look at the outcomes for rejected ones.

    Events that all have an ``id`` may be sent again without harm, and are where an answer is lost.
    """
    repeat = _repeat_of(events)
    return Call("POST", "/v1/events", EventsReceipt, json_body({"events": events}), repeat)


def send_event(event: Mapping[str, Any]) -> Call[EventsReceipt]:
    """Report one event; raises InputError where it is rejected."""
    return Call("POST", "/v1/events", EventsReceipt, json_body(event), _repeat_of([event]))


def entity(entity: str, identifier: Id, model: str = "") -> Call[EntityFeatures]:
    """Return a user's or an item's features as of now."""
    query = f"?model={_segment(model)}" if model else ""
    return Call("GET", f"/v1/entities/{_segment(entity)}/{_segment(str(identifier))}{query}", EntityFeatures)


def models() -> Call[ModelsListed]:
    """Return every model with its versions."""
    return Call("GET", "/v1/models", ModelsListed)


def version(model: str, version: int) -> Call[PublishedVersion]:
    """Return what is known of a version."""
    return Call("GET", f"/v1/models/{_segment(model)}/versions/{version}", PublishedVersion)


def promote(model: str, version: int) -> Call[PublishedVersion]:
    """Make a version the one that answers; raises CorruptionError where its bundle is damaged."""
    path = f"/v1/models/{_segment(model)}/versions/{version}/promote"
    return Call("POST", path, PublishedVersion, repeat="unsent")


def scenes() -> Call[ScenesListed]:
    """Return the project's scenes."""
    return Call("GET", "/v1/scenes", ScenesListed)


def plan() -> Call[PlansListed]:
    """Return the plans of the live versions."""
    return Call("GET", "/v1/plan", PlansListed)


def readiness() -> Call[Any]:
    """Ask whether the server can answer; fails where it cannot."""
    return Call("GET", "/readyz", object, repeat="never")


def _segment(text: str) -> str:
    return quote(text, "")


def _repeat_of(events: Sequence[Mapping[str, Any]]) -> Repeat:
    return "safe" if all("id" in event for event in events) else "unsent"
