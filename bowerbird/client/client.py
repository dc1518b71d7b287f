"""A synchronous client: the server's nouns as methods, its errors as the classes that it raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from bowerbird.client.answers import EntityFeatures, EventsReceipt, Id, Scores, Slate
from bowerbird.client.problems import error_of, unreachable

Answer = TypeVar("Answer")
Candidate = Id | Mapping[str, Any]
"""An item's id, or ``{"id": …, "features": {…}}``."""


class Client:
    """Talks to one server; may be shared by threads and used as a context manager.

    ``key`` is an API key, ``timeout`` is in seconds. Methods raise the server's ``BowerbirdError``s, and
    UnavailableError where it cannot be reached.
    """

    def __init__(self, address: str = "http://127.0.0.1:8765", key: str = "", timeout: float = 30.0) -> None:
        self.address = address
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, trust_env=False)

    def score(
        self,
        scene: str,
        user: Id,
        candidates: Sequence[Candidate],
        *,
        context: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        model: str = "",
    ) -> Scores:
        """Return a score per label for each candidate."""
        body = {
            "user": user,
            "candidates": candidates,
            "context": context or {},
            "features": features or {},
            "model": model,
        }
        return self._post(f"/v1/scenes/{quote(scene, '')}/score", body, Scores)

    def recommend(
        self,
        scene: str,
        user: Id,
        count: int | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        exclude: Sequence[Id] = (),
        model: str = "",
        trace: bool = False,
    ) -> Slate:
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
        return self._post(f"/v1/scenes/{quote(scene, '')}/recommend{query}", body, Slate)

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> EventsReceipt:
        """Report events; those accepted are on the server's disk. Look at the outcomes for rejected ones."""
        return self._post("/v1/events", {"events": events}, EventsReceipt)

    def send_event(self, event: Mapping[str, Any]) -> EventsReceipt:
        """Report one event; raises InputError where it is rejected."""
        return self._post("/v1/events", event, EventsReceipt)

    def entity(self, entity: str, identifier: Id, model: str = "") -> EntityFeatures:
        """Return a user's or an item's features as of now."""
        query = f"?model={quote(model, '')}" if model else ""
        return self._get(f"/v1/entities/{quote(entity, '')}/{quote(str(identifier), '')}{query}", EntityFeatures)

    def models(self) -> list[dict[str, Any]]:
        """Return every model with its versions."""
        return self._get("/v1/models", dict[str, list[dict[str, Any]]])["models"]

    def version(self, model: str, version: int) -> dict[str, Any]:
        """Return what is known of a version."""
        return self._get(f"/v1/models/{quote(model, '')}/versions/{version}", dict[str, Any])

    def promote(self, model: str, version: int) -> dict[str, Any]:
        """Make a version the one that answers; raises CorruptionError where its bundle is damaged."""
        return self._post(f"/v1/models/{quote(model, '')}/versions/{version}/promote", None, dict[str, Any])

    def scenes(self) -> list[dict[str, Any]]:
        """Return the project's scenes."""
        return self._get("/v1/scenes", dict[str, list[dict[str, Any]]])["scenes"]

    def plan(self) -> dict[str, Any]:
        """Return the plans of the live versions."""
        return self._get("/v1/plan", dict[str, Any])

    def ready(self) -> bool:
        """Return whether the server can answer."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, kind: type[Answer]) -> Answer:
        return self._ask("GET", path, b"", kind)

    def _post(self, path: str, body: Any, kind: type[Answer]) -> Answer:
        return self._ask("POST", path, b"" if body is None else msgspec.json.encode(body), kind)

    def _ask(self, method: str, path: str, content: bytes, kind: type[Answer]) -> Answer:
        try:
            response = self._http.request(method, path, content=content, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from error
        if response.status_code >= 400:
            raise error_of(response)
        return msgspec.json.decode(response.content, type=kind)
