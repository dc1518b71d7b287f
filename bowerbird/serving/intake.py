"""Events on their way in: checked by the log's own rules, kept as dead letters where they are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError
from bowerbird.log.validate import EventValidator
from bowerbird.serving.dead_letters import LiveDeadLetters
from bowerbird.serving.state import LogEvent


class LiveIntake:
    """Checks events against a workspace's declarations."""

    def __init__(self, workspace: Workspace) -> None:
        self._validator = EventValidator(workspace.project)
        self._letters = LiveDeadLetters(workspace.dead_letter_folder)

    def validate(self, raw: Mapping[str, Any], now: int) -> LogEvent:
        """Return the event, normalised; InputError where it is not acceptable at ``now``."""
        if not isinstance(raw.get("type"), str):
            raise InputError(f"The event's type is {raw.get('type')!r}.", "Name a declared event, exposure or table.")
        return self._validator.validate(raw, now)

    def reject(self, raw: Mapping[str, Any], reason: str, now: int) -> None:
        """Keep a refused event; raises StorageError."""
        self._letters.add(raw, "rejected event", reason, now)
