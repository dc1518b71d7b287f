"""Spans of requests and their stages, sent to an OpenTelemetry collector (the extra ``otel``)."""

from __future__ import annotations

import os
import time
from typing import Any

from bowerbird.declare.workspace import TelemetrySettings
from bowerbird.errors import MissingExtraError
from bowerbird.server.web.http import Request, Response

_CONTEXT_HEADERS = ("traceparent", "tracestate")


class Telemetry:
    """One span for a sampled request, with a child for each stage, by the semantic conventions of HTTP servers.

    A caller's ``traceparent`` is continued, with its decision to sample.
    """

    def __init__(self, settings: TelemetrySettings, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": service, "process.pid": os.getpid()})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.ratio)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp)))
        self._tracer = self._provider.get_tracer("bowerbird")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._error = Status(StatusCode.ERROR)
        self._within = set_span_in_context

    def answered(self, request: Request, route: str, response: Response, seconds: float) -> None:
        """Send the span of a request that was answered just now and took ``seconds``."""
        end = time.time_ns()
        start = end - round(seconds * 1e9)
        span = self._tracer.start_span(
            f"{request.method} {route}", self._parent(request), self._kind, start_time=start,
            attributes=_attributes(request, route, response),
        )  # fmt: skip
        if span.is_recording():
            if response.status >= 500:
                span.set_status(self._error)
            self._stages(self._within(span), start, response.stages)
        span.end(end)

    def close(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()

    def _parent(self, request: Request) -> Any:
        carrier = {
            name: request.headers[name.encode()].decode("latin-1")
            for name in _CONTEXT_HEADERS
            if name.encode() in request.headers
        }
        return self._propagator.extract(carrier) if carrier else None

    def _stages(self, within: Any, start: int, stages: dict[str, float]) -> None:
        """Add the stages one after another; what lies between them is not measured."""
        for stage, seconds in stages.items():
            end = start + round(seconds * 1e9)
            self._tracer.start_span(stage, within, start_time=start).end(end)
            start = end


def _attributes(request: Request, route: str, response: Response) -> dict[str, str | int]:
    return {
        "http.request.method": request.method,
        "http.route": route,
        "url.path": request.path,
        "http.response.status_code": int(response.status),
        "bowerbird.request_id": request.id,
    }


def open_telemetry(settings: TelemetrySettings, service: str) -> Telemetry | None:
    """Return what sends spans, None where no collector is named; MissingExtraError without the extra."""
    if not settings.otlp:
        return None
    try:
        return Telemetry(settings, service)
    except ImportError as error:
        raise MissingExtraError(
            f"[telemetry] otlp = {settings.otlp!r} needs OpenTelemetry: {error}.",
            "Install it: pip install 'bowerbird[otel]'.",
        ) from error
