"""The writer's feature state as the other processes of a server see it."""

from __future__ import annotations

import threading
from pathlib import Path

from bowerbird.plan.spec import Plan
from bowerbird.serving.shared_state import SharedReader


class SharedSource:
    """A reader for each plan in use, attached to what the writer shows in a folder; see ``StateSource``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._lock = threading.Lock()
        self._readers: dict[str, SharedReader] = {}

    @property
    def lsn(self) -> int:
        """How many records reads see now; 0 without a plan."""
        return max((reader.lsn for reader in self._readers.values()), default=0)

    def require(self, plan: Plan) -> SharedReader:
        """Return a plan's reader; raises UnavailableError until the writer holds what the plan needs."""
        with self._lock:
            reader = self._readers.get(plan.fingerprint)
            if reader is None:
                reader = SharedReader(self._folder, self._name, plan)
                self._readers = {**self._readers, plan.fingerprint: reader}
            return reader

    def keep_only(self, fingerprints: set[str]) -> None:
        """Let go of the plans that no version uses; requests in flight finish with theirs."""
        with self._lock:
            self._readers = {name: each for name, each in self._readers.items() if name in fingerprints}
