"""Everything that is told about an answered request: metrics, a log line, a span."""

from __future__ import annotations

import logging
import time

from bowerbird.declare.workspace import TelemetrySettings
from bowerbird.server.observe.logs import ACCESS, log_request
from bowerbird.server.observe.metrics import Metrics
from bowerbird.server.observe.telemetry import Telemetry, open_telemetry
from bowerbird.server.web.http import Request, Response


class Observer:
    """Tells what became of requests; ``close`` sends what is left."""

    def __init__(self, metrics: Metrics, settings: TelemetrySettings, service: str) -> None:
        self._metrics = metrics
        self._telemetry: Telemetry | None = open_telemetry(settings, service)

    def answered(self, request: Request, route: str, response: Response) -> None:
        """Note a request that was answered just now on a route, which is a template."""
        seconds = time.monotonic() - request.arrived
        self._metrics.count_request(route, int(response.status), seconds)
        self._metrics.observe_stages(response.stages)
        if ACCESS.isEnabledFor(logging.INFO):
            fields = {
                "request": request.id,
                "method": request.method,
                "path": request.path,
                "status": int(response.status),
                "ms": round(seconds * 1e3, 3),
                "client": request.client,
            }
            stages = {f"{stage}_ms": round(taken * 1e3, 3) for stage, taken in response.stages.items()}
            log_request({**fields, **stages})
        if self._telemetry is not None:
            self._telemetry.answered(request, route, response, seconds)

    def close(self) -> None:
        """Send what is left."""
        if self._telemetry is not None:
            self._telemetry.close()
