"""Models and their versions: what is published, what answers, and promotion."""

from __future__ import annotations

import asyncio

import msgspec

from bowerbird.bundles.registry import VersionRecord
from bowerbird.errors import InputError, NotFoundError
from bowerbird.plan.mistake import nearest
from bowerbird.server import wire
from bowerbird.server.http import Request, Response
from bowerbird.server.routing import Route
from bowerbird.server.services import Services


class ModelsRouter:
    """Handlers under ``/v1/models``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the models' operations."""
        version = "/v1/models/{model}/versions/{version}"
        return [
            Route("GET", "/v1/models", self.list, "List models and versions.", "read", "models", None, wire.ModelsAnswer),
            Route("GET", version, self.show, "Show a version.", "read", "models", None, wire.VersionAnswer),
            Route(
                "POST", f"{version}/promote", self.promote, "Make a version the one that answers.",
                "admin", "models", None, wire.VersionAnswer,
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
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
        await asyncio.to_thread(self._services.releases.promote, name, version)
        return Response.json(await asyncio.to_thread(self._version, name, version))

    def _named(self, request: Request) -> tuple[str, int]:
        text = request.parameters["version"]
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise InputError(f"Version {text!r} is not a number.", "Versions are 1, 2, 3, ….")
        return request.parameters["model"], int(text)

    def _models(self) -> list[wire.ModelAnswer]:
        answers: dict[str, wire.ModelAnswer] = {}
        for record in self._services.registry.versions():
            live = self._services.releases.live.get(record.name)
            answer = answers.setdefault(
                record.name, wire.ModelAnswer(record.name, live.version if live is not None else None, [])
            )
            answer.versions.append(self._describe(record))
        for answer in answers.values():
            answer.versions.sort(key=lambda each: -each.version)
        return [answers[name] for name in sorted(answers)]

    def _version(self, name: str, version: int) -> wire.VersionAnswer:
        records = self._services.registry.versions()
        for record in records:
            if (record.name, record.version) == (name, version):
                return self._describe(record)
        names = sorted({record.name for record in records})
        known = [str(record.version) for record in records if record.name == name]
        remedy = f"Its versions are {', '.join(known)}." if known else nearest(name, names)
        raise NotFoundError(f"No version {version} of model {name!r} is published.", remedy)

    def _describe(self, record: VersionRecord) -> wire.VersionAnswer:
        live = self._services.releases.live.get(record.name)
        return wire.VersionAnswer(
            record.name,
            record.version,
            record.stage,
            live is not None and live.version == record.version,
            msgspec.to_builtins(record),
        )
