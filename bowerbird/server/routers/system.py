"""The server itself: health, readiness, metrics, the plan, the API's own description."""

from __future__ import annotations

from collections.abc import Sequence

from bowerbird.server import wire
from bowerbird.server.observe.state_report import StateReport
from bowerbird.server.processes.writer_calls import STATE
from bowerbird.server.services import Services
from bowerbird.server.web.docs_page import docs_page
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.openapi import openapi_document
from bowerbird.server.web.routing import Route

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class SystemRouter:
    """Handlers of what is not a noun of the project."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._routes: Sequence[Route] = ()

    def routes(self) -> list[Route]:
        """Return the system's operations."""
        return [
            Route(
                "GET",
                "/healthz",
                self.health,
                "Whether the process is alive.",
                None,
                "system",
                None,
                wire.HealthAnswer,
            ),
            Route(
                "GET",
                "/readyz",
                self.ready,
                "Whether it can answer.",
                None,
                "system",
                None,
                wire.HealthAnswer,
            ),
            Route("GET", "/metrics", self.metrics, "Metrics in Prometheus' format.", "read", "system"),
            Route(
                "GET",
                "/v1/plan",
                self.plan,
                "The feature plans in use.",
                "read",
                "system",
                None,
                wire.PlansAnswer,
            ),
            Route(
                "GET",
                "/v1/state",
                self.state,
                "The size of the feature state, and how it was recovered.",
                "read",
                "system",
                None,
                StateReport,
            ),
            Route("GET", "/openapi.json", self.openapi, "This API as OpenAPI 3.1.", None, "system"),
            Route("GET", "/docs", self.docs, "This API as a page.", None, "system"),
        ]

    def describe(self, routes: Sequence[Route]) -> None:
        """Say which routes the OpenAPI document shows."""
        self._routes = routes

    async def health(self, request: Request) -> Response:
        """Answer ``GET /healthz``."""
        return Response.json(wire.HealthAnswer("ok"))

    async def ready(self, request: Request) -> Response:
        """Answer ``GET /readyz``: 200 when ready, 503 otherwise."""
        status = self._services.status
        if status.phase != "ready":
            return Response.json(wire.HealthAnswer(status.phase, status.detail), 503)
        return Response.json(wire.HealthAnswer("ready", lsn=self._services.state.lsn))

    async def metrics(self, request: Request) -> Response:
        """Answer ``GET /metrics``."""
        exchange = self._services.exchange
        text = self._services.metrics_text() if exchange is None else exchange.text()
        return Response(text, content_type=_METRICS_TYPE)

    async def plan(self, request: Request) -> Response:
        """Answer ``GET /v1/plan``."""
        self._services.status.check_ready()
        plans = [
            wire.PlanAnswer(wire.ModelVersion(model.name, model.version), model.plan_fingerprint, model.plan)
            for model in self._services.releases.live.values()
        ]
        return Response.json(wire.PlansAnswer(plans))

    async def state(self, request: Request) -> Response:
        """Answer ``GET /v1/state``."""
        self._services.status.check_ready()
        link = self._services.link
        return Response.json(self._services.state_report() if link is None else await link.call(STATE, None))

    async def openapi(self, request: Request) -> Response:
        """Answer ``GET /openapi.json``."""
        return Response.json(openapi_document(self._routes))

    async def docs(self, request: Request) -> Response:
        """Answer ``GET /docs``."""
        return Response(docs_page(openapi_document(self._routes)), content_type="text/html; charset=utf-8")
