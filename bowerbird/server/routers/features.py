"""Features: the catalogue, and why a feature had its value."""

from __future__ import annotations

import asyncio

import msgspec

from bowerbird.errors import InputError, NotFoundError
from bowerbird.monitoring.catalogue import Catalogue, FeatureEntry, StateUse
from bowerbird.monitoring.explanation import Explanation
from bowerbird.monitoring.feature_cost import StateSize, costs_file
from bowerbird.monitoring.process import CatalogueTask, ExplainTask
from bowerbird.plan.engine import Usage
from bowerbird.plan.mistake import nearest
from bowerbird.server.processes.children import Children
from bowerbird.server.services import Services
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.routing import Route

_MOST_EVENTS = 1_000
_Stamp = tuple[tuple[str, int], ...]


class FeaturesRouter:
    """Handlers under ``/v1/features``, and ``/v1/exposures/{id}/explain``.

    The catalogue is made in a child process and kept until samples, measurements or versions change.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._children = Children()
        self._kept: tuple[_Stamp, Catalogue] | None = None

    def routes(self) -> list[Route]:
        """Return the features' operations."""
        return [
            Route(
                "GET", "/v1/features", self.list_features, "The catalogue of features.",
                "read", "features", None, Catalogue,
            ),
            Route(
                "GET", "/v1/features/{name}", self.show, "One feature of the catalogue.",
                "read", "features", None, FeatureEntry,
            ),
            Route(
                "GET", "/v1/exposures/{id}/explain", self.explain, "The log events behind an exposure's values.",
                "read", "features", None, Explanation,
                (
                    ("feature", "a feature's name; without it, all"),
                    ("item", "the id is a slate's: this candidate of it"),
                    ("events", "how many events to list for each state (default 20)"),
                ),
            ),
        ]  # fmt: skip

    async def list_features(self, request: Request) -> Response:
        """Answer ``GET /v1/features``."""
        self._services.status.check_ready()
        return Response.json(await self._catalogue())

    async def show(self, request: Request) -> Response:
        """Answer ``GET /v1/features/{name}``."""
        self._services.status.check_ready()
        name = request.parameters["name"]
        entries = {entry.name: entry for entry in (await self._catalogue()).features}
        if name not in entries:
            raise NotFoundError(f"The project has no feature {name!r}.", nearest(name, entries))
        return Response.json(entries[name])

    async def explain(self, request: Request) -> Response:
        """Answer ``GET /v1/exposures/{id}/explain``."""
        self._services.status.check_ready()
        task = ExplainTask(
            str(self._services.workspace.folder),
            request.parameters["id"],
            request.query("feature") or None,
            request.query("item") or None,
            _event_count(request.query("events", "20")),
        )
        return Response.json((await self._children.run(task)).explanation)

    async def _catalogue(self) -> Catalogue:
        stamp = await asyncio.to_thread(self._stamp)
        if self._kept is None or self._kept[0] != stamp:
            made = await self._children.run(CatalogueTask(str(self._services.workspace.folder)))
            assert made.catalogue is not None
            self._kept = stamp, made.catalogue
        return await asyncio.to_thread(self._with_live_state, self._kept[1])

    def _stamp(self) -> _Stamp:
        """Return what changes when the catalogue would."""
        workspace = self._services.workspace
        files = [*workspace.samples_folder.glob("[!.]*/manifest.json"), costs_file(workspace)]
        changed = tuple((str(file), file.stat().st_mtime_ns) for file in sorted(files) if file.is_file())
        stages = tuple((f"{each.name} {each.stage}", each.version) for each in self._services.registry.versions())
        return changed + stages

    def _with_live_state(self, catalogue: Catalogue) -> Catalogue:
        """Return the catalogue with the sizes of the state that answers now."""
        usages = [model.state.usage() for model in self._services.releases.live.values()]
        features = [
            msgspec.structs.replace(entry, states=[_live_size(state, usages) for state in entry.states])
            for entry in catalogue.features
        ]
        return msgspec.structs.replace(catalogue, features=features)


def _live_size(state: StateUse, usages: list[Usage]) -> StateUse:
    for usage in usages:
        if state.keys in usage.family_bytes:
            family = StateSize(usage.family_keys[state.keys], usage.family_bytes[state.keys])
            own = getattr(usage, "aggregate_bytes", {}).get(state.fingerprint, state.bytes)
            return msgspec.structs.replace(state, family=family, bytes=own)
    return state


def _event_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _MOST_EVENTS:
        raise InputError(f"?events={text} is not a number of events.", f"Give 0 to {_MOST_EVENTS}.")
    return int(text)
