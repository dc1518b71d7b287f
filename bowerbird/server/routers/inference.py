"""The Open Inference Protocol v2 over HTTP: scenes as models, under ``/v2``."""

from __future__ import annotations

from collections.abc import Awaitable

from bowerbird.server.inference import wire
from bowerbird.server.inference.binary import LENGTH_HEADER, output_of, read_request
from bowerbird.server.inference.describe import model_metadata, server_metadata
from bowerbird.server.inference.service import Inference, InferenceService
from bowerbird.server.load.deadlines import deadline_of
from bowerbird.server.services import Services
from bowerbird.server.web.access import Scope
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.problems import REFUSALS
from bowerbird.server.web.routing import Handler, Route

_OCTETS = "application/octet-stream"


class InferenceRouter:
    """Handlers under ``/v2``; errors are in the protocol's form."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._inference = InferenceService(services)

    def routes(self) -> list[Route]:
        """Return the protocol's operations; those of a model exist with and without a version."""
        routes = [
            _get("/v2", self.server, "The server's name and version.", wire.ServerMetadata, open_to_all=True),
            _get("/v2/health/live", self.live, "Whether the process is alive.", wire.LiveAnswer, open_to_all=True),
            _get("/v2/health/ready", self.ready, "Whether it can answer.", wire.ReadyAnswer, open_to_all=True),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                _get(model, self.model, "A scene's inputs and outputs.", wire.ModelMetadata),
                _get(f"{model}/ready", self.model_ready, "Whether a scene can be scored.", wire.ReadyAnswer),
                Route(
                    "POST", f"{model}/infer", self.infer, "Score a scene's candidates, given as tensors.",
                    "read", "inference", wire.InferRequest, wire.InferAnswer, admit=self.admit, errors=REFUSALS,
                ),
            ]  # fmt: skip
        return routes

    def admit(self, request: Request) -> None:
        """Admit an inference by its head, or raise OverloadedError, DeadlineError."""
        scene = self._inference.scene(request.parameters["model"])
        deadline = deadline_of(request, scene.deadline_seconds)
        request.work = self._inference.work(scene, request.body_length, request.arrived, deadline)
        self._services.pool.check(request.work)

    async def server(self, request: Request) -> Response:
        """Answer ``GET /v2``."""
        return Response.json(server_metadata())

    async def live(self, request: Request) -> Response:
        """Answer ``GET /v2/health/live``."""
        return Response.json(wire.LiveAnswer(True))

    async def ready(self, request: Request) -> Response:
        """Answer ``GET /v2/health/ready``: 200 when ready, 503 otherwise."""
        ready = self._inference.ready
        return Response.json(wire.ReadyAnswer(ready), 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Answer ``GET /v2/models/{model}``."""
        scene = self._inference.scene(request.parameters["model"])
        return Response.json(model_metadata(scene.name, self._inference.signature(scene, _version(request))))

    async def model_ready(self, request: Request) -> Response:
        """Answer ``GET /v2/models/{model}/ready``."""
        self._inference.signature(self._inference.scene(request.parameters["model"]), _version(request))
        return Response.json(wire.ReadyAnswer(True))

    def infer(self, request: Request) -> Awaitable[Response]:
        """Answer ``POST /v2/models/{model}/infer``."""
        assert request.work is not None
        return self._services.pool.run(request.work, lambda waited: self._infer(request, waited), request.on_disconnect)

    def _infer(self, request: Request, waited: float) -> Response:
        asked, tensors = read_request(request)
        found = self._inference.infer(
            Inference(
                request.parameters["model"],
                _version(request),
                tensors,
                [each.name for each in asked.outputs],
                asked.parameters,
            ),
            waited,
        )
        default = asked.parameters.get("binary_data_output") is True
        as_bytes = {each.name: each.parameters.get("binary_data", default) is True for each in asked.outputs}
        parts = [output_of(name, values, as_bytes.get(name, default)) for name, values in found.outputs.items()]
        outputs, raws = [output for output, _ in parts], [raw for _, raw in parts]
        response = Response.json(wire.InferAnswer(found.scene, found.version, outputs, asked.id, found.parameters))
        if any(raws):
            response.headers.append((LENGTH_HEADER, str(len(response.body)).encode()))
            response.content_type = _OCTETS
            response.body += b"".join(raws)
        return response


def _get(template: str, handler: Handler, summary: str, answer: type, open_to_all: bool = False) -> Route:
    scope: Scope | None = None if open_to_all else "read"
    return Route("GET", template, handler, summary, scope, "inference", None, answer, errors=REFUSALS)


def _version(request: Request) -> str:
    return request.parameters.get("version", "")
