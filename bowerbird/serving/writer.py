"""The one writer: events become durable, then visible, then acknowledged, in one order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bowerbird.errors import BowerbirdError, InputError, StorageError, UnavailableError
from bowerbird.log.wal import WriteAheadLog
from bowerbird.serving.clock import Clock
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.state import LogEvent

_LOG = logging.getLogger("bowerbird.serving")
_GROUP_EVENTS = 20_000
_QUEUE_EVENTS = 200_000

OutcomeStatus = Literal["accepted", "duplicate", "rejected"]


@dataclass(frozen=True)
class Outcome:
    """What became of one event; ``reason`` says why it was rejected."""

    status: OutcomeStatus
    id: str = ""
    reason: str = ""


class Intake(Protocol):
    """What checks events and keeps those that are refused."""

    def validate(self, raw: Mapping[str, Any], now: int) -> LogEvent:
        """Return the event, normalised; InputError where it is not acceptable at ``now``."""
        ...

    def reject(self, raw: Mapping[str, Any], reason: str, now: int) -> None:
        """Keep a refused event where people can look at it."""
        ...


@dataclass(frozen=True)
class _Submission:
    events: Sequence[Mapping[str, Any]]
    answer: Future[list[Outcome]]


@dataclass
class _Group:
    """Submissions that share one write: the events to be written and everybody's outcomes."""

    submissions: list[_Submission]
    accepted: list[LogEvent]
    fresh: set[tuple[str, str]]
    outcomes: list[list[Outcome]]


class EventWriter:
    """A thread that takes all submissions that wait, writes them with one fdatasync, applies and answers them.

    ``apply`` is called in LSN order with what was made durable. Where the disk refuses, nothing of the
    group is acknowledged and the next group is tried again.
    """

    def __init__(
        self,
        log: WriteAheadLog,
        intake: Intake,
        known: KnownIds,
        clock: Clock,
        apply: Callable[[Sequence[LogEvent]], None],
    ) -> None:
        self._log = log
        self._intake = intake
        self._known = known
        self._clock = clock
        self._apply = apply
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._closed: BowerbirdError | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Mapping[str, Any]]) -> Future[list[Outcome]]:
        """Queue events; the future holds their outcomes in order once they are durable and applied."""
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._waiting + len(events) > _QUEUE_EVENTS and self._waiting:
                raise UnavailableError(f"{self._waiting:,} events wait to be written.", "Send them again in a second.")
            self._waiting += len(events)
            submission = _Submission(events, Future())
            self._queue.put(submission)
        return submission.answer

    def close(self) -> None:
        """Write what was submitted and stop."""
        with self._lock:
            if self._closed is None:
                self._closed = UnavailableError("The server is shutting down.", "Send the events again later.")
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (submissions := self._take()) is not None:
            count = sum(len(each.events) for each in submissions)
            try:
                self._write(submissions)
            except BowerbirdError as error:
                _answer_all(submissions, error)
            except Exception as error:
                self._fail(submissions, error)
            with self._lock:
                self._waiting -= count

    def _take(self) -> list[_Submission] | None:
        """Wait for a submission, then take all that are there; None when closed and empty."""
        first = self._queue.get()
        if first is None:
            return None
        taken, count = [first], len(first.events)
        while count < _GROUP_EVENTS:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            taken.append(following)
            count += len(following.events)
        return taken

    def _write(self, submissions: list[_Submission]) -> None:
        group = self._check(submissions)
        if group.accepted:
            self._log.append(group.accepted, self._clock.now())
            self._log.sync()
            self._known.add(group.fresh)
            self._apply(group.accepted)
        for submission, outcomes in zip(submissions, group.outcomes, strict=True):
            submission.answer.set_result(outcomes)

    def _check(self, submissions: list[_Submission]) -> _Group:
        group = _Group(submissions, [], set(), [])
        now = self._clock.now()
        for submission in submissions:
            group.outcomes.append([self._check_one(raw, now, group) for raw in submission.events])
        return group

    def _check_one(self, raw: Mapping[str, Any], now: int, group: _Group) -> Outcome:
        try:
            event = self._intake.validate(raw, now)
        except InputError as error:
            self._keep_rejected(raw, str(error), now)
            return Outcome("rejected", str(raw.get("id", "")), str(error))
        type_name, identifier = event["_type"], event["_id"]
        if (type_name, identifier) in group.fresh or self._known.holds(type_name, identifier):
            return Outcome("duplicate", identifier)
        group.fresh.add((type_name, identifier))
        group.accepted.append(event)
        return Outcome("accepted", identifier)

    def _keep_rejected(self, raw: Mapping[str, Any], reason: str, now: int) -> None:
        try:
            self._intake.reject(raw, reason, now)
        except StorageError as error:
            _LOG.warning("a rejected event was not kept: %s", error)

    def _fail(self, submissions: list[_Submission], error: Exception) -> None:
        """State and log may disagree now: take no more events, so that nothing wrong is acknowledged."""
        _LOG.critical("the writer stopped", exc_info=error)
        stopped = UnavailableError("The server takes no events after an internal error.", "Restart it; see its log.")
        with self._lock:
            self._closed = stopped
            self._queue.put(None)
        _answer_all(submissions, stopped)


def _answer_all(submissions: list[_Submission], error: BowerbirdError) -> None:
    for submission in submissions:
        submission.answer.set_exception(error)
