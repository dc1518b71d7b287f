"""The one writer: events become durable, then visible, then acknowledged, in one order."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from bowerbird.errors import BowerbirdError, UnavailableError
from bowerbird.log.live.write_ahead import WriteAheadLog
from bowerbird.serving.checking import Intake, check_events
from bowerbird.serving.clock import Clock
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.state import LogEvent
from bowerbird.serving.submission import AnswerFuture, Outcome, OutcomeStatus, Submission, answer_all

_LOG = logging.getLogger("bowerbird.serving")
_GROUP_EVENTS = 20_000
_QUEUE_EVENTS = 200_000


class EventWriter:
    """A thread that takes all submissions that wait, writes them with one fdatasync, applies and answers them.

    ``apply`` is called in LSN order with what was made durable. Where the disk refuses, nothing of the
    group is acknowledged and the next group is tried again. An event that cannot be checked is rejected alone; where
    ``apply`` fails, log and state may disagree, and no more events are taken. ``late`` counts the events that were
    applied beyond their declared lateness.
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
        self._queue: queue.SimpleQueue[Submission | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.late = 0
        self._closed: BowerbirdError | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Mapping[str, Any]]) -> Future[list[Outcome]]:
        """Queue events; the future holds their outcomes in order once they are durable and applied."""
        answer: Future[list[Outcome]] = Future()
        self._enqueue(events, answer)
        return answer

    def submit_here(self, events: Sequence[Mapping[str, Any]]) -> asyncio.Future[list[Outcome]]:
        """Queue events, and return a future of the running event loop; see ``submit``."""
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._enqueue(events, answer)
        return answer

    def close(self) -> None:
        """Write what was submitted and stop."""
        with self._lock:
            if self._closed is None:
                self._closed = UnavailableError("The server is shutting down.", "Send the events again later.")
                self._queue.put(None)
        self._thread.join()

    def _enqueue(self, events: Sequence[Mapping[str, Any]], answer: AnswerFuture) -> None:
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._waiting + len(events) > _QUEUE_EVENTS and self._waiting:
                raise UnavailableError(f"{self._waiting:,} events wait to be written.", "Send them again in a second.")
            self._waiting += len(events)
            self._queue.put(Submission(events, answer))

    def _run(self) -> None:
        while (submissions := self._take()) is not None:
            try:
                self._write(submissions)
            except BowerbirdError as error:
                answer_all([(each, error) for each in submissions])
            except Exception as error:
                self._fail(submissions, error)
            with self._lock:
                self._waiting -= sum(len(each.events) for each in submissions)

    def _take(self) -> list[Submission] | None:
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

    def _write(self, submissions: list[Submission]) -> None:
        raws = [raw for submission in submissions for raw in submission.events]
        checked = check_events(raws, self._intake, self._known, self._clock.now())
        if checked.accepted:
            self._log.append(checked.accepted, self._clock.now())
            self._log.sync()
            self.late += checked.late
            self._show(checked.accepted)
        outcomes = iter(checked.outcomes)
        answer_all([(each, [next(outcomes) for _ in each.events]) for each in submissions])

    def _show(self, events: list[LogEvent]) -> None:
        try:
            self._known.add([(event["_type"], event["_id"]) for event in events])
            self._apply(events)
        except BowerbirdError as error:
            raise RuntimeError("what is durable could not be applied") from error

    def _fail(self, submissions: list[Submission], error: Exception) -> None:
        """State and log may disagree now: take no more events, so that nothing wrong is acknowledged."""
        _LOG.critical("the writer stopped", exc_info=error)
        stopped = UnavailableError("The server takes no events after an internal error.", "Restart it; see its log.")
        with self._lock:
            self._closed = stopped
            self._queue.put(None)
        answer_all([(each, stopped) for each in submissions])


__all__ = ["EventWriter", "Intake", "Outcome", "OutcomeStatus"]
