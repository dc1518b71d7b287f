"""Live feature state: one engine per plan in use, all at the same place of the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.plan.spec import Plan

Id = str | int
LogEvent = dict[str, Any]
"""A validated, normalised record as ``bowerbird.log.validate`` makes it."""


class History(Protocol):
    """The log below an LSN, as a plan's records."""

    def batches(self, plan: Plan, until: int) -> Iterator[RecordBatch]:
        """Yield the records below LSN ``until`` in order."""
        ...


class PlanState:
    """One plan's engine and encoder; reads from many threads, applies from one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.encoder = Encoder(plan)
        self.engine = build_engine(plan)
        self._nobody = self.encoder.encode_request(None, {})

    def apply(self, events: Sequence[LogEvent]) -> None:
        """Apply events that follow in LSN order."""
        self.engine.apply(self.encoder.encode_events(events))

    def read(self, time_us: int, user: Id | None, context: Mapping[str, Any], candidates: Keys) -> FeatureBlock:
        """Return features for a request: one row of request stage, one per candidate of the others.

        ``user`` and ``context`` have their declared types (see ``RequestForm``).
        """
        request = self._nobody if user is None else self.encoder.encode_request(user, context)
        return self.engine.read(time_us, request, candidates)


class _Joining:
    """A plan that is being brought up to the log's end, and the events that came meanwhile."""

    def __init__(self, state: PlanState) -> None:
        self.state = state
        self.backlog: list[Sequence[LogEvent]] = []


class LiveState:
    """The engines of every plan in use, fed by the one writer.

    A plan joins without stopping the writer: it replays the log up to where it asked to join, then what came
    meanwhile, and takes the writer's lock only to check that nothing is left.
    """

    def __init__(self, history: History, lsn: int) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._join_lock = threading.Lock()
        self._plans: dict[str, PlanState] = {}
        self._joining: list[_Joining] = []
        self._lsn = lsn

    @property
    def lsn(self) -> int:
        """How many records the log holds."""
        return self._lsn

    def get(self, fingerprint: str) -> PlanState | None:
        """Return a plan's state where it is in use."""
        return self._plans.get(fingerprint)

    def require(self, plan: Plan) -> PlanState:
        """Return a plan's state at the log's end, made from the log when it is new."""
        with self._join_lock:
            found = self._plans.get(plan.fingerprint)
            return found if found is not None else self._join(plan)

    def keep_only(self, fingerprints: set[str]) -> None:
        """Let go of the plans that no version uses; requests in flight finish with theirs."""
        with self._lock:
            self._plans = {name: state for name, state in self._plans.items() if name in fingerprints}

    def apply(self, events: Sequence[LogEvent]) -> None:
        """Apply acknowledged-to-be events to every engine; called by the writer alone, in LSN order."""
        with self._lock:
            for state in self._plans.values():
                state.apply(events)
            for joining in self._joining:
                joining.backlog.append(events)
            self._lsn += len(events)

    def _join(self, plan: Plan) -> PlanState:
        joining = _Joining(PlanState(plan))
        with self._lock:
            start = self._lsn
            self._joining.append(joining)
        try:
            for batch in self._history.batches(plan, start):
                joining.state.engine.apply(batch)
            while not self._finish(joining, plan.fingerprint):
                pass
        finally:
            with self._lock:
                self._joining.remove(joining)
        return joining.state

    def _finish(self, joining: _Joining, fingerprint: str) -> bool:
        """Apply what came meanwhile; True once nothing was left and the plan is in use."""
        with self._lock:
            backlog, joining.backlog = joining.backlog, []
            if not backlog:
                self._plans = {**self._plans, fingerprint: joining.state}
                return True
        for events in backlog:
            joining.state.apply(events)
        return False
