"""How much memory the bodies of requests may take at once."""

from __future__ import annotations

from bowerbird.errors import OverloadedError


class BodyMemory:
    """Bytes of bodies that are being read or answered, up to ``limit``; used by the event loop alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


class BodyShare:
    """What one request has of it."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._taken = 0

    def take(self, count: int) -> None:
        """Count bytes in; raises OverloadedError where they would be too many beside other requests'."""
        memory = self._memory
        if memory.taken > self._taken and memory.taken + count > memory.limit:
            raise OverloadedError(
                f"Bodies of {memory.taken:,} bytes are being read; {count:,} more are too many.",
                "Send it again in a second, or raise server.body_memory.",
            )
        memory.taken += count
        self._taken += count

    def give_back(self) -> None:
        """Count them out."""
        self._memory.taken -= self._taken
        self._taken = 0
