"""Live feature state: groups of aggregates that plans share, all at the same place of the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

from bowerbird.errors import StorageError
from bowerbird.log.snapshots import SnapshotStore
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.encode import Encoder
from bowerbird.plan.read import PlanReader
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import Usage
from bowerbird.plan.subset import Held, merged_plan, missing_plan, needed_by
from bowerbird.serving.state_groups import StateGroup, StateMaker, choose_groups, summed

_LOG = logging.getLogger("bowerbird.serving")
Id = str | int
LogEvent = dict[str, Any]
"""A validated, normalised record as ``bowerbird.log.rows.validate`` makes it."""


class History(Protocol):
    """The log below an LSN, as a plan's records."""

    def batches(self, plan: Plan, first: int, until: int) -> Iterator[RecordBatch]:
        """Yield the records from LSN ``first`` to below ``until`` in order."""
        ...


@dataclass(frozen=True)
class Recovery:
    """What bringing state up to the log's end took: groups from snapshots, records from the log, seconds."""

    restored_groups: int = 0
    replayed_records: int = 0
    seconds: float = 0.0


class PlanState:
    """One plan's view of the state; reads from many threads."""

    def __init__(self, plan: Plan, groups: Sequence[StateGroup]) -> None:
        self.plan = plan
        self.groups = list(groups)
        self.encoder = Encoder(plan)
        self._reader = PlanReader(plan, [group.state for group in groups])
        self._nobody = self.encoder.encode_request(None, {})

    @property
    def lsn(self) -> int:
        """How many records a read sees now."""
        return min(group.state.lsn for group in self.groups)

    def read(self, time_us: int, user: Id | None, context: Mapping[str, Any], candidates: Keys) -> FeatureBlock:
        """Return features for a request: one row of request stage, one per candidate of the others.

        ``user`` and ``context`` have their declared types (see ``RequestForm``).
        """
        request = self._nobody if user is None else self.encoder.encode_request(user, context)
        return self._reader.read(time_us, request, candidates)

    def usage(self) -> Usage:
        """Return the size of the groups that the plan reads, with what others read there."""
        return summed([group.state.usage() for group in self.groups])


class _Joining:
    """Groups that are being brought up to the log's end, and the events that came meanwhile."""

    def __init__(self, groups: list[StateGroup]) -> None:
        self.groups = groups
        self.backlog: list[Sequence[LogEvent]] = []


class LiveState:
    """The state of every plan in use, fed by the one writer.

    What a plan needs and a running group holds is read there. What is missing comes from snapshots and the log,
    without stopping the writer: it is brought up to where it asked to join, then through what came meanwhile, and the
    writer's lock is taken only to check that nothing is left. Groups that no plan reads go.
    """

    def __init__(
        self, history: History, lsn: int, snapshots: SnapshotStore | None = None, maker: StateMaker | None = None
    ) -> None:
        self._history = history
        self._snapshots = snapshots
        self._maker = maker or StateMaker()
        self._lock = threading.Lock()
        self._join_lock = threading.RLock()
        self._plans: dict[str, PlanState] = {}
        self._living: WeakSet[PlanState] = WeakSet()
        self._pinned: list[StateGroup] = []
        self._groups: list[StateGroup] = []
        self._joining: list[_Joining] = []
        self._to_expire: list[tuple[StateGroup, int]] = []
        self._lsn = lsn
        self.recovery = Recovery()

    @property
    def lsn(self) -> int:
        """How many records the log holds."""
        return self._lsn

    @property
    def groups(self) -> list[StateGroup]:
        """The groups at the log's end."""
        return list(self._groups)

    def usage(self) -> Usage:
        """Return the size of all groups."""
        return summed([group.state.usage() for group in self._groups])

    def get(self, fingerprint: str) -> PlanState | None:
        """Return a plan's state where it is in use."""
        return self._plans.get(fingerprint)

    def require(self, plan: Plan) -> PlanState:
        """Return a plan's state at the log's end; what no group holds is made from snapshots and the log.

        Raises StorageError where the memory does not suffice, what reading the log raises.
        """
        with self._join_lock:
            found = self._plans.get(plan.fingerprint)
            if found is not None:
                return found
            self._bring([plan])
            groups = choose_groups(plan, self._groups)
            assert groups is not None
            state = PlanState(plan, groups)
            self._plans = {**self._plans, plan.fingerprint: state}
            self._living.add(state)
            return state

    @contextmanager
    def prepared(self, plans: Sequence[Plan]) -> Iterator[None]:
        """Bring what several plans need to the log's end at once; it stays at least as long as the block lasts."""
        with self._join_lock:
            self._bring(plans)
            self._pinned = list(self._groups)
        try:
            yield
        finally:
            self._pinned = []
            self.drop_unused()

    def keep_only(self, fingerprints: set[str]) -> None:
        """Let go of the plans that no version uses; requests in flight finish with theirs."""
        with self._join_lock:
            self._plans = {name: state for name, state in self._plans.items() if name in fingerprints}
        self.drop_unused()

    def drop_unused(self, wait: bool = True) -> None:
        """Let go of groups that no plan reads any more, not even for a request in flight.

        Without ``wait``, nothing is done while a plan joins.
        """
        if not self._join_lock.acquire(blocking=wait):
            return
        try:
            used = {id(group) for state in list(self._living) for group in state.groups}
            used |= {id(group) for group in self._pinned}
            if any(id(group) not in used for group in self._groups):
                with self._lock:
                    self._groups = [group for group in self._groups if id(group) in used]
                    self._to_expire.clear()
                self._maker.publish(self._groups)
        finally:
            self._join_lock.release()

    def apply(self, events: Sequence[LogEvent]) -> None:
        """Apply acknowledged-to-be events to every group; called by the writer alone, in LSN order."""
        with self._lock:
            batches = [(group, group.encode(events)) for group in self._groups]
            everything = [*self._groups, *(group for joining in self._joining for group in joining.groups)]
            for group, batch in batches:
                self._maker.apply(group, batch, everything)
            for joining in self._joining:
                joining.backlog.append(events)
            self._lsn += len(events)
            if self._to_expire:
                self._expire_next()

    def expire_later(self, time_us: int) -> None:
        """Let the writer drop keys whose state reads as empty at ``time_us`` and ever after, a group at a time."""
        with self._lock:
            self._to_expire = [(group, time_us) for group in self._groups]

    def close(self) -> None:
        """Take back what other processes see; nothing is applied any more."""
        self._maker.close()

    def _expire_next(self) -> None:
        group, time_us = self._to_expire.pop()
        gone = group.state.expire(time_us)
        if gone:
            _LOG.info("%d keys without live state went", gone)

    def _bring(self, plans: Sequence[Plan]) -> None:
        """Make sure that some group holds whatever the plans need, at the log's end."""
        started, start = time.perf_counter(), self._lsn
        made: list[StateGroup] = []
        try:
            self._restore(made, plans, start)
            restored = len(made)
            lacking = [missing_plan(plan, self._held(made)) for plan in plans]
            missing = [plan for plan in lacking if plan is not None]
            if missing or not (self._groups or made):
                made.append(StateGroup(self._maker.make(merged_plan(missing or plans), [*self._groups, *made])))
            records = sum(start - group.state.lsn for group in made)
            if made:
                self._join(made)
        except BaseException:
            self._maker.discard(made)
            raise
        if made:
            self._note(Recovery(restored, records, time.perf_counter() - started))

    def _restore(self, made: list[StateGroup], plans: Sequence[Plan], until: int) -> None:
        """Append groups from snapshots, as far as they are of use."""
        needed: set[Held] = {each for plan in plans for each in needed_by(plan)}
        while self._snapshots is not None and needed - self._held(made):
            make = partial(self._maker.make, others=[*self._groups, *made])
            found = self._snapshots.restore(needed - self._held(made), make, until)
            if found is None:
                break
            made.append(StateGroup(*found))

    def _held(self, made: Sequence[StateGroup]) -> set[Held]:
        return {each for group in (*self._groups, *made) for each in group.held}

    def _join(self, groups: list[StateGroup]) -> None:
        joining = _Joining(groups)
        with self._lock:
            start = self._lsn
            self._joining.append(joining)
        try:
            for group in groups:
                for batch in self._history.batches(group.plan, group.state.lsn, start):
                    self._maker.apply(group, batch, [*self._groups, *groups])
            while not self._finish(joining):
                pass
        finally:
            with self._lock:
                self._joining.remove(joining)
        self._maker.publish(self._groups)

    def _finish(self, joining: _Joining) -> bool:
        """Apply what came meanwhile; True once nothing was left and the groups are in use."""
        with self._lock:
            backlog, joining.backlog = joining.backlog, []
            if not backlog:
                self._check_positions(joining.groups)
                self._groups = [*self._groups, *joining.groups]
                return True
        for events in backlog:
            for group in joining.groups:
                self._maker.apply(group, group.encode(events), [*self._groups, *joining.groups])
        return False

    def _check_positions(self, groups: Sequence[StateGroup]) -> None:
        for group in groups:
            if group.state.lsn != self._lsn:
                raise StorageError(
                    f"The log gave {group.state.lsn:,} of {self._lsn:,} records.", "Look at the log's folder."
                )

    def _note(self, recovery: Recovery) -> None:
        before = self.recovery
        self.recovery = Recovery(
            before.restored_groups + recovery.restored_groups,
            before.replayed_records + recovery.replayed_records,
            before.seconds + recovery.seconds,
        )
        _LOG.info(
            "state at record %d: %d groups from snapshots, %d records from the log, %.1f seconds",
            self._lsn, recovery.restored_groups, recovery.replayed_records, recovery.seconds,
        )  # fmt: skip
