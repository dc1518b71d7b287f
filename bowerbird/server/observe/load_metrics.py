"""What the server says of its load: the queue, connections, the ladders."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

from bowerbird.server.load.admission import QueueReport
from bowerbird.server.web.connection_limits import ConnectionLimits


class LoadMetrics:
    """Gauges of the queue, of connections and of scenes' levels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"bowerbird_{name}", meaning, registry=registry)

        self._waiting = gauge("queue_waiting", "Requests that wait to be scored.")
        self._running = gauge("queue_running", "Requests that are being scored.")
        self._wait = gauge("queue_wait_seconds", "How long a request that came now would wait.")
        self._refused = gauge("queue_refused", "Requests refused because they could not be answered in time.")
        self._expired = gauge("queue_expired", "Requests not computed because their deadline had passed.")
        self._cancelled = gauge("queue_cancelled", "Requests dropped because their client went.")
        self._timed_out = gauge("connections_timed_out", "Connections closed because they were too slow.")
        self._turned_away = gauge("connections_turned_away", "Connections refused because there were too many.")
        self._handed_over = gauge("connections_handed_over", "Connections given to a process that had less to do.")
        self._level = Gauge(
            "bowerbird_degradation_level", "Steps of its ladder that a scene has gone down.", ["scene"],
            registry=registry,
        )  # fmt: skip

    def observe(self, queue: QueueReport, connections: ConnectionLimits, levels: Mapping[str, int]) -> None:
        """Show the load as of now."""
        self._waiting.set(queue.waiting)
        self._running.set(queue.running)
        self._wait.set(queue.wait_seconds)
        self._refused.set(queue.refused)
        self._expired.set(queue.expired)
        self._cancelled.set(queue.cancelled)
        self._timed_out.set(connections.timed_out)
        self._turned_away.set(connections.turned_away)
        self._handed_over.set(connections.handed_over)
        for scene, level in levels.items():
            self._level.labels(scene).set(level)
