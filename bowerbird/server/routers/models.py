"""Models and their versions: what is published, what answers, and promotion."""

from __future__ import annotations

import asyncio

from bowerbird.bundles.registry import VersionRecord
from bowerbird.errors import InputError
from bowerbird.server import wire
from bowerbird.server.promotion import promote
from bowerbird.server.services import Services
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.routing import Route


class ModelsRouter:
    """Handlers under ``/v1/models``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the models' operations."""
        version = "/v1/models/{model}/versions/{version}"
        return [
            Route(
                "GET", "/v1/models", self.list_models, "List models and versions.",
                "read", "models", None, wire.ModelsAnswer,
            ),
            Route("GET", version, self.show, "Show a version.", "read", "models", None, wire.VersionAnswer),
            Route(
                "POST", f"{version}/promote", self.promote, "Make a version the one that answers.",
                "admin", "models", None, wire.VersionAnswer,
            ),
        ]  # fmt: skip

    async def list_models(self, request: Request) -> Response:
        """Answer ``GET /v1/models``."""
        self._services.status.check_ready()
        return Response.json(wire.ModelsAnswer(await asyncio.to_thread(self._models)))

    async def show(self, request: Request) -> Response:
        """Answer ``GET /v1/models/{model}/versions/{version}``."""
        self._services.status.check_ready()
        name, version = self._named(request)
        return Response.json(await asyncio.to_thread(self._version, name, version))

    async def promote(self, request: Request) -> Response:
        """Answer ``POST …/promote``: the version is loaded and checked before it answers; else the former goes on."""
        self._services.status.check_ready()
        name, version = self._named(request)
        await promote(self._services, name, version)
        return Response.json(await asyncio.to_thread(self._version, name, version))

    def _named(self, request: Request) -> tuple[str, int]:
        text = request.parameters["version"]
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise InputError(f"Version {text!r} is not a number.", "Versions are 1, 2, 3, ….")
        return request.parameters["model"], int(text)

    def _models(self) -> list[wire.ModelAnswer]:
        answers: dict[str, wire.ModelAnswer] = {}
        for version in self._services.registry.versions():
            live = self._services.releases.live.get(version.name)
            empty = wire.ModelAnswer(version.name, live.version if live is not None else None, [])
            answers.setdefault(version.name, empty).versions.insert(0, self._describe(version))
        return list(answers.values())

    def _version(self, name: str, number: int) -> wire.VersionAnswer:
        return self._describe(self._services.registry.version(name, number))

    def _describe(self, version: VersionRecord) -> wire.VersionAnswer:
        live = self._services.releases.live.get(version.name)
        serving = live is not None and live.version == version.version
        return wire.VersionAnswer(
            version.name,
            version.version,
            version.stage,
            serving,
            version.kind,
            version.digest,
            version.created,
            version.promoted,
            version.lineage,
            version.metrics,
            live.choice if live is not None and serving else None,
        )
