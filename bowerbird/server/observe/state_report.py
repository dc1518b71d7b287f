"""What the server says of its feature state, as an answer and as metrics."""

from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry, Gauge


class StateReport(msgspec.Struct, frozen=True):
    """The feature state of a server.

    ``bytes`` of at most ``budget`` (0: no limit) in ``groups`` of aggregates hold ``keys``; ``refused`` updates and
    ``expired`` keys are what the budget cost since the start. The oldest group's snapshot was written
    ``snapshot_age_seconds`` ago. Starting took ``recovery_seconds`` for ``recovered_groups`` from snapshots and
    ``recovered_records`` from the log.
    """

    lsn: int
    groups: int
    keys: int
    bytes: int
    budget: int
    refused: int
    expired: int
    snapshot_age_seconds: float
    snapshots_failed: int
    snapshots_skipped: int
    recovery_seconds: float
    recovered_groups: int
    recovered_records: int


_MEANINGS = {
    "groups": ("state_groups", "Groups of aggregates in memory."),
    "keys": ("state_keys", "Keys that have state."),
    "bytes": ("state_bytes", "Memory of the feature state."),
    "budget": ("state_budget_bytes", "Most memory that feature state may take; 0 for no limit."),
    "refused": ("state_refused", "Updates that the memory budget kept out of the state."),
    "expired": ("state_expired", "Keys that were let go for want of memory."),
    "snapshot_age_seconds": ("snapshot_age_seconds", "Age of the oldest group's snapshot."),
    "snapshots_failed": ("snapshots_failed", "Snapshots that the disk refused."),
    "snapshots_skipped": ("snapshots_skipped", "Damaged snapshots that were passed over."),
    "recovery_seconds": ("recovery_seconds", "What bringing the state to the log's end took."),
    "recovered_records": ("recovery_records", "Records that were read from the log for it."),
}


class StateMetrics:
    """Gauges of a report."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            field: Gauge(f"bowerbird_{name}", meaning, registry=registry)
            for field, (name, meaning) in _MEANINGS.items()
        }

    def observe(self, report: StateReport) -> None:
        """Show a report's numbers."""
        for field, gauge in self._gauges.items():
            gauge.set(getattr(report, field))
