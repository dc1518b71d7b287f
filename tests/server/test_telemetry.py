"""What the server tells of itself: JSON lines with request ids, spans to a collector, a dashboard of real metrics."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bowerbird.declare.workspace import TelemetrySettings, Workspace
from bowerbird.errors import MissingExtraError
from bowerbird.server.observe import telemetry
from bowerbird.server.observe.metrics import Metrics
from tests.server.process import ROOT, ServerProcess

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Run an OTLP collector; yields its address and the spans that it gets."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = trace_service.ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
        finally:
            server.shutdown()
            thread.join()


def test_requests_are_logged_and_traced(workspace: Workspace) -> None:
    with collector() as (address, spans):
        (workspace.folder / "bowerbird.toml").write_text(
            f'[telemetry]\nlog = "json"\naccess_log = true\notlp = "{address}"\nratio = 0.0\n'
        )
        with ServerProcess(workspace) as server:
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
            body = {"user": 1, "candidates": ["i1"]}
            url = f"{server.address}/v1/scenes/home/score"
            assert httpx.post(url, json=body, headers=headers, trust_env=False).status_code == 200
            assert httpx.post(url, json=body, trust_env=False).status_code == 200
            assert httpx.post(url, content=b"{", headers={"x-request-id": "bad"}, trust_env=False).status_code == 422
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    by_request = {line["request"]: line for line in lines if "request" in line}
    assert by_request["mine"]["status"] == 200
    assert by_request["mine"]["model_ms"] > 0
    assert by_request["bad"]["status"] == 422
    (root,) = [span for span in spans if span.name == "POST /v1/scenes/{scene}/score"]
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    children = [span for span in spans if span.parent_span_id == root.span_id]
    assert [span.name for span in children] == ["queue", "decode", "features", "model", "slate", "encode"]
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in children)


def test_a_collector_without_the_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise ImportError("No module named 'opentelemetry'")

    monkeypatch.setattr(telemetry, "Telemetry", absent)
    with pytest.raises(MissingExtraError, match=r"bowerbird\[otel\]"):
        telemetry.open_telemetry(TelemetrySettings(otlp="http://127.0.0.1:9/v1/traces"), "tiny")
    assert telemetry.open_telemetry(TelemetrySettings(), "tiny") is None


def test_the_dashboard_shows_metrics_that_exist() -> None:
    metrics = Metrics()
    known = {
        name
        for family in metrics.registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    dashboard = json.loads(Path(ROOT, "docs", "grafana.json").read_text())
    used = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"bowerbird_\w+", target["expr"])
    }
    assert len(used) > 20
    assert used <= known
