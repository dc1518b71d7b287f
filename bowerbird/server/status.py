"""Where a server stands in its life."""

from __future__ import annotations

import threading
from typing import Literal

from bowerbird.errors import UnavailableError

Phase = Literal["starting", "ready", "stopping"]
_DETAILS: dict[Phase, str] = {
    "starting": "The server is reading the log and warming its models.",
    "ready": "",
    "stopping": "The server is shutting down.",
}


class Status:
    """The phase, set by the thread that starts and stops the parts, read by handlers."""

    def __init__(self) -> None:
        self._phase: Phase = "starting"
        self._left_start = threading.Event()

    @property
    def phase(self) -> Phase:
        """The phase as of now."""
        return self._phase

    @property
    def detail(self) -> str:
        """What the phase means, in a sentence."""
        return _DETAILS[self._phase]

    def set(self, phase: Phase) -> None:
        """Enter a phase."""
        self._phase = phase
        if phase != "starting":
            self._left_start.set()

    def wait_started(self, seconds: float) -> bool:
        """Wait until starting ended, well or not; False when the time passed first."""
        return self._left_start.wait(seconds)

    def check_ready(self) -> None:
        """Raise UnavailableError unless the server is ready."""
        if self._phase != "ready":
            raise UnavailableError(self.detail, "Ask again in a moment; /readyz says when it is ready.")
