"""Events on their way in: checked by the log's own rules, kept as dead letters where they are refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError
from bowerbird.log.erasure.returning import Forgotten
from bowerbird.log.rows.lateness import lateness_by_type
from bowerbird.log.rows.validate import EventValidator
from bowerbird.serving.dead_letters import LiveDeadLetters
from bowerbird.serving.state import LogEvent


class LiveIntake:
    """Checks events against a workspace's declarations."""

    def __init__(self, workspace: Workspace) -> None:
        self._validator = EventValidator(workspace.project)
        self._letters = LiveDeadLetters(workspace.dead_letter_folder)
        self._lateness = lateness_by_type(workspace.project)
        self._forgotten = Forgotten(workspace)

    def validate(self, raw: Mapping[str, Any], now: int) -> LogEvent:
        """Return the event, normalised; InputError where it is not acceptable at ``now``."""
        if not isinstance(raw.get("type"), str):
            raise InputError(f"The event's type is {raw.get('type')!r}.", "Name a declared event, exposure or table.")
        event = self._validator.validate(raw, now)
        if self._forgotten.covers(event):
            raise InputError("The event is from before its user was forgotten.", "Do not send it again.")
        return event

    def lateness(self, event: LogEvent, now: int) -> str:
        """Return that an event came later than declared, or nothing."""
        allowed = self._lateness.get(event["_type"])
        if allowed is None or not allowed.exceeded(event, now):
            return ""
        age = timedelta(microseconds=now - event["_time"])
        return f"{event['_type']!r} comes {age} after its time; its declared lateness is {allowed.text}."

    def refuses_late(self, event: LogEvent) -> bool:
        """Return whether events of its type are refused when they come later than declared."""
        return self._lateness[event["_type"]].rejects

    def reject(self, raw: Mapping[str, Any], reason: str, detail: str, now: int) -> None:
        """Keep a refused event, unless it names a forgotten user; raises StorageError."""
        if not self._forgotten.named_in(raw):
            self._letters.add(raw, reason, detail, now)
