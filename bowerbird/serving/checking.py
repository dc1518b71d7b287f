"""Checking a group of events at once: each is accepted, there already, or rejected for a reason of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bowerbird.errors import InputError, StorageError
from bowerbird.log.retractions import original_id
from bowerbird.log.rows.faults import LATE, NOTHING_TO_RETRACT
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.state import LogEvent
from bowerbird.serving.submission import Outcome

_LOG = logging.getLogger("bowerbird.serving")
REJECTED = "rejected event"
UNEXPECTED = "unexpected error"
Raw = Mapping[str, Any]
Name = tuple[str, str]


class Intake(Protocol):
    """What checks events and keeps those that are refused."""

    def validate(self, raw: Raw, now: int) -> LogEvent:
        """Return the event, normalised; InputError where it is not acceptable at ``now``."""
        ...

    def lateness(self, event: LogEvent, now: int) -> str:
        """Return that an event came later than declared; mostly nothing."""
        ...

    def refuses_late(self, event: LogEvent) -> bool:
        """Return whether events of its type are refused when they come later than declared."""
        ...

    def reject(self, raw: Raw, reason: str, detail: str, now: int) -> None:
        """Keep a refused event where people can look at it."""
        ...


@dataclass(frozen=True)
class Checked:
    """The ``accepted`` events in order, how many of them came ``late``, and every event's outcome."""

    accepted: list[LogEvent]
    late: int
    outcomes: list[Outcome]


def check_events(raws: Sequence[Raw], intake: Intake, known: KnownIds, now: int) -> Checked:
    """Check events in order at time ``now`` (microseconds); an error of one of them leaves the others alone."""
    return _Check(intake, known, now).run(raws)


class _Check:
    def __init__(self, intake: Intake, known: KnownIds, now: int) -> None:
        self._intake = intake
        self._known = known
        self._now = now
        self._fresh: set[Name] = set()
        self._accepted: list[LogEvent] = []
        self._late = 0

    def run(self, raws: Sequence[Raw]) -> Checked:
        valid = [self._validate(raw) for raw in raws]
        names = [_name(event) for event in valid if not isinstance(event, Outcome)]
        held = iter(self._known.hold(names).tolist())
        outcomes = [
            found if isinstance(found, Outcome) else self._decide(raw, found, next(held))
            for raw, found in zip(raws, valid, strict=True)
        ]
        return Checked(self._accepted, self._late, outcomes)

    def _validate(self, raw: Raw) -> LogEvent | Outcome:
        try:
            return self._intake.validate(raw, self._now)
        except InputError as error:
            return self._reject(raw, REJECTED, str(error))
        except Exception as error:
            _LOG.exception("an event could not be checked")
            return self._reject(raw, UNEXPECTED, f"{type(error).__name__}: {error}")

    def _decide(self, raw: Raw, event: LogEvent, held: bool) -> Outcome:
        name = _name(event)
        if held or name in self._fresh:
            return Outcome("duplicate", name[1])
        if "_retracts" in event and not self._is_there((name[0], original_id(name[1]))):
            detail = (
                f"The log has no {name[0]!r} with id {original_id(name[1])!r}. Send the event before its retraction."
            )
            return self._reject(raw, NOTHING_TO_RETRACT, detail)
        late = self._intake.lateness(event, self._now)
        if late and self._intake.refuses_late(event):
            return self._reject(raw, LATE, late)
        self._late += bool(late)
        self._fresh.add(name)
        self._accepted.append(event)
        return Outcome("accepted", name[1], late)

    def _is_there(self, name: Name) -> bool:
        return name in self._fresh or bool(self._known.hold([name])[0])

    def _reject(self, raw: Raw, reason: str, detail: str) -> Outcome:
        try:
            self._intake.reject(raw, reason, detail, self._now)
        except (StorageError, TypeError, ValueError) as error:
            _LOG.warning("a rejected event was not kept: %s", error)
        return Outcome("rejected", str(raw.get("id", "")), detail)


def _name(event: LogEvent) -> Name:
    return event["_type"], event["_id"]
