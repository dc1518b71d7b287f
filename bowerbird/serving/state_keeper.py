"""What keeps live state durable and small: snapshots when they are due, keys that expire, warnings."""

from __future__ import annotations

import logging
import threading
import time

from bowerbird.declare.workspace import StateSettings
from bowerbird.errors import BowerbirdError
from bowerbird.log.snapshots import SnapshotStore
from bowerbird.serving.clock import Clock
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_groups import StateGroup

_LOG = logging.getLogger("bowerbird.serving")
_TICK_SECONDS = 1.0
_MINUTE = 60.0
_DAY_US = 86_400_000_000


class StateKeeper:
    """A thread beside the writer, which never waits for it.

    A group of aggregates is written to a snapshot after so many minutes or events, whichever comes first, and once
    more by ``close``; after a refusal of the disk it is tried again in a minute. Keys whose windows have passed for a
    day are let go. What the memory budget refuses is said once a minute.
    """

    def __init__(self, state: LiveState, snapshots: SnapshotStore, settings: StateSettings, clock: Clock) -> None:
        self._state = state
        self._snapshots = snapshots
        self._settings = settings
        self._clock = clock
        self._stopping = threading.Event()
        self._retry_after = self._warn_after = 0.0
        self._expire_after = time.monotonic() + _MINUTE * settings.expire_minutes
        self._said = (0, 0)
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    @property
    def snapshot_age(self) -> float:
        """Seconds since the group that was written longest ago was; 0 without groups."""
        return max((time.time() - group.snapshot_time for group in self._state.groups), default=0.0)

    def close(self) -> None:
        """End the thread and write what changed since the last snapshots; no event may be applied any more."""
        self._stopping.set()
        self._thread.join()
        self._write([group for group in self._state.groups if group.state.lsn > max(group.snapshot_lsn, 0)])

    def tick(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if now >= self._retry_after:
            self._write([group for group in self._state.groups if self._is_due(group)])
        if now >= self._expire_after:
            self._expire_after = now + _MINUTE * self._settings.expire_minutes
            self._state.expire_later(self._clock.now() - _DAY_US)
        if now >= self._warn_after:
            self._warn(now)
        self._state.drop_unused(wait=False)

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            try:
                self.tick()
            except Exception:
                _LOG.exception("looking after the state failed; it is tried again")
                self._stopping.wait(_MINUTE)

    def _is_due(self, group: StateGroup) -> bool:
        lsn = group.state.lsn
        if lsn <= max(group.snapshot_lsn, 0):
            return False
        waited = time.time() - group.snapshot_time >= _MINUTE * self._settings.snapshot_minutes
        return group.snapshot_lsn < 0 or waited or lsn - group.snapshot_lsn >= self._settings.snapshot_events

    def _write(self, groups: list[StateGroup]) -> None:
        for group in groups:
            started = time.perf_counter()
            try:
                group.note(self._snapshots.write(group.state))
            except BowerbirdError as error:
                _LOG.warning("%s", error)
                self._retry_after = time.monotonic() + _MINUTE
                return
            _LOG.info("snapshot at record %d in %.1f seconds", group.snapshot_lsn, time.perf_counter() - started)
        if groups:
            self._snapshots.prune([group.plan for group in self._state.groups])

    def _warn(self, now: float) -> None:
        usage = self._state.usage()
        refused, expired = usage.refused - self._said[0], usage.expired - self._said[1]
        if refused > 0 or expired > 0:
            _LOG.warning(
                "feature state is full: %d updates were left out and %d keys let go since the last word; "
                "raise memory under [state] in bowerbird.toml",
                max(refused, 0),
                max(expired, 0),
            )
            self._warn_after = now + _MINUTE
        self._said = (usage.refused, usage.expired)
