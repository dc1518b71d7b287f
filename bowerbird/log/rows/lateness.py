"""How late an event may become known, as its declaration says, and what happens to it beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Table
from bowerbird.log.schema import RETRACTS, TIME


@dataclass(frozen=True)
class AllowedLateness:
    """An event type's lateness: ``within`` microseconds past its usual ``delay``; does it ``reject`` what comes later?

    A retraction is never late: its event time is that of what it takes back.
    """

    text: str
    within: int
    delay: int
    rejects: bool

    def exceeded(self, record: Mapping[str, Any], now: int) -> bool:
        """Return whether a live record (as ``validate_event`` returns it) is later than allowed at ``now``."""
        return now - int(record[TIME]) > self.delay + self.within and RETRACTS not in record


def allowed_lateness(record: Event | Table) -> AllowedLateness | None:
    """Return what a record type declares; None where it is never late."""
    if not isinstance(record, Event) or record.lateness is None:
        return None
    return AllowedLateness(
        record.lateness, microseconds(record.lateness), microseconds(record.delay), record.beyond == "reject"
    )


def lateness_by_type(project: Project) -> dict[str, AllowedLateness]:
    """Return the declared lateness of a project's event types by name."""
    found = {record.name: allowed_lateness(record) for record in project.record_types}
    return {name: allowed for name, allowed in found.items() if allowed is not None}
