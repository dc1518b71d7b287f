"""What ``/metrics`` shows: one registry per server, so that two servers in a process do not mix."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bowerbird.server.observe.delta_metrics import DeltaMetrics
from bowerbird.server.observe.load_metrics import LoadMetrics
from bowerbird.server.observe.slate_metrics import SlateMetrics
from bowerbird.server.observe.state_report import StateMetrics
from bowerbird.server.observe.way_metrics import WayMetrics

_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5)
_SIZES = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("bowerbird_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "bowerbird_request_seconds",
            "Time to answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "bowerbird_stage_seconds",
            "Time in a stage of scoring.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages: dict[str, Histogram] = {}
        self._routes: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.candidates = Histogram(
            "bowerbird_candidates", "Candidates per request.", buckets=_SIZES, registry=self.registry
        )
        self.degraded = Counter(
            "bowerbird_degraded", "Answers by a step of a scene's ladder.", ["scene", "step"], registry=self.registry
        )
        self.load = LoadMetrics(self.registry)
        self.events = Counter("bowerbird_events", "Events received.", ["outcome"], registry=self.registry)
        self._event_counts = [self.events.labels(status) for status in ("accepted", "duplicate", "rejected")]
        self.events_late = Gauge(
            "bowerbird_events_late", "Events applied later than their declared lateness.", registry=self.registry
        )
        self.log_position = Gauge("bowerbird_log_position", "Records in the log.", registry=self.registry)
        self.items = Gauge("bowerbird_items", "Items that can be recalled.", registry=self.registry)
        self.slates = SlateMetrics(self.registry)
        self.state = StateMetrics(self.registry)
        self.ways = WayMetrics(self.registry)
        self.deltas = DeltaMetrics(self.registry)
        self.live_version = Gauge(
            "bowerbird_live_version", "The live version of a model.", ["model"], registry=self.registry
        )

    def count_events(self, accepted: int, duplicate: int, rejected: int) -> None:
        """Add events by what became of them."""
        for counter, count in zip(self._event_counts, (accepted, duplicate, rejected), strict=True):
            if count:
                counter.inc(count)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        counted = self._routes.get((route, status))
        if counted is None:
            counted = self.requests.labels(route, status), self.seconds.labels(route)
            self._routes[(route, status)] = counted
        counted[0].inc()
        counted[1].observe(seconds)

    def observe_wait(self, seconds: float) -> None:
        """Count how long a request waited to be scored."""
        self._stage("queue").observe(seconds)

    def observe_stages(self, seconds: Mapping[str, float]) -> None:
        """Count what the stages of an answer took; waiting is counted by itself."""
        for stage, taken in seconds.items():
            if stage != "queue":
                self._stage(stage).observe(taken)

    def _stage(self, stage: str) -> Histogram:
        if stage not in self._stages:
            self._stages[stage] = self.stages.labels(stage)
        return self._stages[stage]

    def text(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self.registry)
