"""What ``/metrics`` shows of embedding deltas."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from bowerbird.serving.live_model import LiveModel


class DeltaMetrics:
    """Gauges by model; a model that is not live any more has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sequence = Gauge("bowerbird_delta", "The last embedding delta applied.", ["model"], registry=registry)
        self._staleness = Gauge(
            "bowerbird_delta_staleness_seconds",
            "How long after its publication the last embedding delta was applied.",
            ["model"],
            registry=registry,
        )
        self._bytes = Gauge(
            "bowerbird_delta_bytes", "Memory of rows that embedding deltas changed.", ["model"], registry=registry
        )
        self._waiting = Gauge(
            "bowerbird_delta_waiting", "Whether an embedding delta cannot be applied.", ["model"], registry=registry
        )

    def observe(self, models: Iterable[LiveModel]) -> None:
        """Bring the gauges up to date."""
        for gauge in (self._sequence, self._staleness, self._bytes, self._waiting):
            gauge.clear()
        for model in models:
            self._sequence.labels(model.name).set(model.delta)
            self._staleness.labels(model.name).set(model.deltas.staleness)
            self._bytes.labels(model.name).set(model.changed_bytes)
            self._waiting.labels(model.name).set(bool(model.deltas.problem))
