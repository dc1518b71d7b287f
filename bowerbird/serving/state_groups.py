"""Groups of aggregates that live in one native state, shared by every plan that needs them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from bowerbird.declare.workspace import StateSettings
from bowerbird.log.snapshots import Snapshot
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState, StateOptions, Usage
from bowerbird.plan.subset import Held, held_by, needed_by
from bowerbird.serving.shared_folder import SharedFolder


class StateGroup:
    """One native state and the encoder of its records; ``held`` is what plans can find in it.

    ``snapshot_lsn`` is the position of its newest snapshot, -1 without one, written at ``snapshot_time`` (seconds).
    ``memory`` is what it took in bytes when it was last changed.
    """

    def __init__(self, state: FeatureState, snapshot: Snapshot | None = None) -> None:
        self.state = state
        self.plan = state.plan
        self.held = frozenset(held_by(state.plan))
        self.memory = state.usage().memory
        self.snapshot_lsn = -1
        self.snapshot_time = time.time()
        self._encoder = Encoder(state.plan)
        if snapshot is not None:
            self.note(snapshot)

    def note(self, snapshot: Snapshot) -> None:
        """Remember the newest snapshot."""
        self.snapshot_lsn, self.snapshot_time = snapshot.lsn, snapshot.written

    def encode(self, events: Sequence[dict[str, Any]]) -> RecordBatch:
        """Return validated events as the group's records."""
        return self._encoder.encode_events(events)


def choose_groups(plan: Plan, groups: Sequence[StateGroup]) -> list[StateGroup] | None:
    """Return the groups in which a plan finds all that it reads, at least one; None where something is missing."""
    missing: set[Held] = needed_by(plan)
    chosen: list[StateGroup] = []
    for group in groups:
        if missing & group.held:
            chosen.append(group)
            missing -= group.held
    if missing or not groups:
        return None
    return chosen or [groups[0]]


def summed(usages: Collection[Usage]) -> Usage:
    """Return the sizes of several states as one."""
    return Usage(
        _by_name([usage.family_keys for usage in usages]),
        _by_name([usage.family_bytes for usage in usages]),
        _by_name([usage.table_bytes for usage in usages]),
        sum(usage.memory for usage in usages),
        sum(usage.refused for usage in usages),
        sum(usage.expired for usage in usages),
        sum(usage.retired_blocks for usage in usages),
    )


def _by_name(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


class StateMaker:
    """Says how new states are kept: for readers beside the writer, within the memory budget, shared where asked."""

    def __init__(self, settings: StateSettings | None = None, shared: SharedFolder | None = None) -> None:
        self._settings = settings or StateSettings()
        self._shared = shared

    def make(self, plan: Plan, others: Collection[StateGroup]) -> FeatureState:
        """Return an empty state beside ``others``; raises StorageError where they left no memory."""
        state = FeatureState(
            plan,
            StateOptions(
                versioned=True,
                budget=self._settings.memory_bytes,
                full=cast(Literal["fail", "refuse", "expire"], self._settings.full),
                path=str(self._shared.new_path()) if self._shared is not None else "",
            ),
        )
        self._limit(state, others)
        return state

    def apply(self, group: StateGroup, records: RecordBatch, groups: Collection[StateGroup]) -> None:
        """Apply records to one of some groups, which may take the memory that the others do not."""
        if self._settings.memory_bytes:
            self._limit(group.state, [each for each in groups if each is not group])
        group.state.apply(records)
        if self._settings.memory_bytes:
            group.memory = group.state.usage().memory

    def publish(self, groups: Sequence[StateGroup]) -> None:
        """Let other processes see these groups and no others."""
        if self._shared is not None:
            self._shared.publish([group.state.options.path for group in groups])

    def discard(self, groups: Iterable[StateGroup]) -> None:
        """Take away the files of groups that were never published."""
        for group in groups:
            if group.state.options.path:
                Path(group.state.options.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Take the shared files away; who has them open reads on."""
        if self._shared is not None:
            self._shared.close()

    def _limit(self, state: FeatureState, others: Collection[StateGroup]) -> None:
        total = self._settings.memory_bytes
        if total:
            state.set_budget(max(1, total - sum(group.memory for group in others)))
