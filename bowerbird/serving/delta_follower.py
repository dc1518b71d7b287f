"""Following the deltas of a live version: each is applied once, in order, and what is refused waits."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from bowerbird.bundles.bundle import Bundle
from bowerbird.bundles.deltas import DeltaLog
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.errors import BowerbirdError, StorageError

_LOG = logging.getLogger("bowerbird.serving")
_GAP_SECONDS = 5.0
_Signature = tuple[int, int, int]


class DeltaFollower:
    """One version's deltas as one process applies them; one thread at a time.

    Changed rows may take ``limit`` bytes of this process: a delta that would need more waits, and the tables stay as
    they are. ``problem`` says why the next delta waits, empty where none does; ``staleness`` is how many seconds after
    its publication the last delta was applied.
    """

    def __init__(self, bundle: Bundle, limit: int) -> None:
        self.problem = ""
        self.staleness = 0.0
        self._log = DeltaLog(bundle.folder, bundle.digest)
        self._limit = limit
        self._refused: _Signature | None = None
        self._looked = 0.0

    def followed(self, tables: ServedCollection) -> ServedCollection:
        """Return tables with the deltas that came since; the same ones where none did or the next one waits."""
        while True:
            file = self._log.file(tables.sequence + 1)
            signature = _signature(file)
            if signature is None:
                self._look_for_gap(tables.sequence)
                return tables
            if signature == self._refused:
                return tables
            try:
                tables = self._next(tables)
            except BowerbirdError as error:
                self._refused = signature
                self._note(str(error))
                return tables
            self._refused, self.problem = None, ""

    def _next(self, tables: ServedCollection) -> ServedCollection:
        delta = self._log.read(tables.sequence + 1)
        changed = self._log.apply(tables, delta)
        if changed.changed_bytes > self._limit:
            raise StorageError(
                f"With delta {delta.sequence} changed rows would take {changed.changed_bytes:,} bytes of "
                f"{self._limit:,}; delta {tables.sequence} goes on.",
                "Publish a new version, or raise server.delta_memory.",
            )
        self.staleness = max(0.0, time.time() - delta.header.created / 1e6)
        return changed

    def _look_for_gap(self, sequence: int) -> None:
        """Note where a later delta is there and the next one is not; looked for every few seconds."""
        now = time.monotonic()
        if now - self._looked < _GAP_SECONDS:
            return
        self._looked = now
        later = [number for number in self._log.sequences() if number > sequence + 1]
        self._note(f"Delta {later[0]} waits: delta {sequence + 1} is not there." if later else "")

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            _LOG.warning("%s: %s", self._log.folder, problem)
        self.problem = problem


def _signature(file: Path) -> _Signature | None:
    """Return what tells a file from one that replaced it; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
