"""What ``/metrics`` shows of served slates."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from bowerbird.serving.slate_retention import SlateRetention
from bowerbird.serving.slates import SlateLog


class SlateMetrics:
    """Gauges of what a process lost and removed, and of what the folder holds that all of them write."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lost = Gauge("bowerbird_slates_lost", "Slates that the disk refused.", registry=registry)
        self._removed = Gauge(
            "bowerbird_slates_removed_segments", "Segments of slates that retention removed.", registry=registry
        )
        self._removed_bytes = Gauge(
            "bowerbird_slates_removed_bytes", "Bytes of slates that retention removed.", registry=registry
        )
        self._bytes = Gauge(
            "bowerbird_slates_bytes", "Bytes of slates on disk, told by the process that writes events.",
            registry=registry,
        )  # fmt: skip

    def observe(self, log: SlateLog, retention: SlateRetention, writes_events: bool) -> None:
        """Bring the gauges up to date; only one of several processes tells the folder's size."""
        self._lost.set(log.lost)
        self._removed.set(retention.removed_segments)
        self._removed_bytes.set(retention.removed_bytes)
        if writes_events:
            self._bytes.set(retention.bytes)
