"""What ``/metrics`` shows of the ways that models are served by."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from bowerbird.serving.live_model import LiveModel


class WayMetrics:
    """Gauges by model, and by way; a model that is not live any more has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["model", "way"]
        self._serving = Gauge(
            "bowerbird_way", "The way that a model is served by.", [*labels, "why"], registry=registry
        )
        self._seconds = Gauge(
            "bowerbird_way_seconds_per_candidate", "What a way was measured to take here.", labels, registry=registry
        )
        self._refused = Gauge(
            "bowerbird_way_refused", "A way that the gates allow and that failed here.", labels, registry=registry
        )

        self._items = Gauge(
            "bowerbird_items_made",
            "Items whose values were made because a request asked for them: new ones, and those that changed.",
            ["model"],
            registry=registry,
        )

    def observe(self, models: Iterable[LiveModel]) -> None:
        """Bring the gauges up to date."""
        for gauge in (self._serving, self._seconds, self._refused, self._items):
            gauge.clear()
        for model in models:
            choice = model.choice
            self._items.labels(model.name).set(model.items_made)
            self._serving.labels(model.name, choice.way, choice.why).set(1)
            for timing in choice.timings:
                self._seconds.labels(model.name, timing.way).set(timing.mean / 1e6)
            for refused in choice.refused:
                self._refused.labels(model.name, refused.way).set(1)
