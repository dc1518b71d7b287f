"""The queue in front of scoring: takes what can be answered in time, refuses the rest at once."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bowerbird.errors import DeadlineError, OverloadedError
from bowerbird.server.load.service_time import ServiceTime

_STANDING_SECONDS = 0.1
"""A queue that was never empty for so long is a standing one: load is above capacity, not a burst."""
_STANDING_SHARE = 0.5
"""Share of its deadline that a request may wait behind a standing queue."""
_MARGIN = 1.5
"""A request is given so many times its expected service time before its deadline."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a request asks of the pool: a ``size`` whose time ``service`` expects.

    It came at ``arrived`` and is to be done by ``deadline`` (monotonic seconds), at ``level`` of its scene's ladder.
    """

    service: ServiceTime
    size: float
    arrived: float
    deadline: float
    level: int = 0


def untimed_work() -> Work:
    """Return work that may take any time."""
    return Work(ServiceTime(), 0.0, 0.0, math.inf)


@dataclass(slots=True, eq=False)
class Job:
    """A call that waits or runs, and is told the seconds that it waited; ``finish`` is called once, from any thread."""

    work: Work
    call: Callable[[float], object] = field(repr=False)
    finish: Callable[[object, BaseException | None], None] = field(repr=False)
    seconds: float
    queued: float
    started: float = field(default=0.0)

    def end(self, result: object, error: BaseException | None) -> None:
        """Tell what became of the call, and hold neither it nor its answer any more.

        A request holds what cancels its job: it would hold itself, and wait for a collection of cycles with its answer.
        """
        finish = self.finish
        del self.call, self.finish
        finish(result, error)


@dataclass(frozen=True, slots=True)
class QueueReport:
    """How many requests wait and run, the seconds that a new one would wait, and counts since the start."""

    waiting: int
    running: int
    wait_seconds: float
    refused: int
    expired: int
    cancelled: int


class AdmissionQueue:
    """Jobs in order of arrival, for ``threads`` that take them.

    A request is admitted while what waits before it leaves time to answer it by its deadline, as far as service times
    tell. While the queue stands (it was not empty for 100 ms) it may wait half of its deadline only, so that
    answers stay early and a wrong guess costs little. A free thread takes a request whatever is expected of it: so the
    expectation is corrected. What cannot be answered in time any more when its turn comes is not computed.
    """

    def __init__(self, threads: int, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Job] = deque()
        self._waiting_seconds = 0.0
        self._running: dict[int, Job] = {}
        self._empty_at = clock()
        self._closed = False
        self._refused = self._expired = self._cancelled = 0

    @property
    def refused(self) -> int:
        """Requests refused since the start."""
        return self._refused

    def check(self, work: Work) -> None:
        """Raise OverloadedError for work that would not be done in time, DeadlineError when it is past that."""
        with self._lock:
            self._check(work, self._clock())

    def put(
        self, work: Work, call: Callable[[float], object], finish: Callable[[object, BaseException | None], None]
    ) -> Job:
        """Queue a call and return its job; raises as ``check`` does."""
        with self._lock:
            now = self._clock()
            self._check(work, now)
            seconds = 0.0 if self._has_free_thread() else work.service.expect(work.size)
            job = Job(work, call, finish, seconds, now)
            self._waiting.append(job)
            self._waiting_seconds += seconds
            self._changed.notify()
        return job

    def cancel(self, job: Job, reason: BaseException) -> None:
        """Take a job that still waits out of the queue; its ``finish`` hears ``reason``."""
        with self._lock:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
            self._waiting_seconds -= job.seconds
            self._cancelled += 1
        job.end(None, reason)

    def take(self) -> Job | None:
        """Wait for a job that can still be answered in time and return it; None once closed and empty."""
        while True:
            with self._lock:
                while not self._waiting:
                    self._empty_at = self._clock()
                    if self._closed:
                        return None
                    self._changed.wait()
            job = self.take_now()
            if job is not None:
                return job

    def take_now(self, free_since: float = math.inf) -> Job | None:
        """Return the next job that can still be answered in time; None where none waits.

        What whoever takes it did since ``free_since``, while the job waited, counts as the job's: others will wait as
        long for it.
        """
        while True:
            with self._lock:
                now = self._clock()
                if not self._waiting:
                    return None
                job = self._waiting.popleft()
                self._waiting_seconds -= job.seconds
                if not self._waiting:
                    self._empty_at = now
                late = now + job.seconds > job.work.deadline
                if late:
                    self._expired += 1
                else:
                    job.started = min(now, max(job.queued, free_since))
                    job.seconds = job.work.service.expect(job.work.size)
                    self._running[id(job)] = job
            if not late:
                return job
            job.end(None, _expired(job, now))

    def done(self, job: Job) -> None:
        """Note that a job's call has ended."""
        with self._lock:
            del self._running[id(job)]
            seconds = self._clock() - job.started
        job.work.service.observe(job.work.size, seconds)

    def close(self) -> None:
        """Let what waits be taken, then ``take`` returns None."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def wait_seconds(self) -> float:
        """Return for how long a request that came now would wait."""
        with self._lock:
            return self._wait(self._clock())

    def report(self) -> QueueReport:
        """Return the queue's state and counts."""
        with self._lock:
            return QueueReport(
                len(self._waiting), len(self._running), self._wait(self._clock()),
                self._refused, self._expired, self._cancelled,
            )  # fmt: skip

    def _check(self, work: Work, now: float) -> None:
        if now >= work.deadline:
            self._expired += 1
            raise DeadlineError("The deadline had passed before the request was read.", "Give it more time.")
        if self._has_free_thread():
            return
        wait = self._wait(now)
        seconds = _MARGIN * work.service.expect(work.size)
        allowed = work.deadline - now - seconds
        if now - self._empty_at > _STANDING_SECONDS:
            allowed = min(allowed, _STANDING_SHARE * (work.deadline - work.arrived))
        if wait <= allowed and len(self._waiting) < self._limit:
            return
        self._refused += 1
        raise _overloaded(wait, seconds, max(0.001, wait - max(0.0, allowed)))

    def _has_free_thread(self) -> bool:
        return len(self._waiting) + len(self._running) < self._threads

    def _wait(self, now: float) -> float:
        """Return the seconds of work before a new job, shared by the threads."""
        if self._has_free_thread():
            return 0.0
        seconds = self._waiting_seconds
        for job in self._running.values():
            seconds += max(0.0, job.seconds - (now - job.started))
        return seconds / self._threads


def _overloaded(wait: float, seconds: float, retry_after: float) -> OverloadedError:
    error = OverloadedError(
        f"The request would wait {wait * 1e3:,.0f} ms and need up to {seconds * 1e3:,.0f} ms: too late.",
        "Ask again after Retry-After, give it more time (X-Deadline-Ms), or add servers.",
    )
    error.retry_after = retry_after
    return error


def _expired(job: Job, now: float) -> DeadlineError:
    waited = (now - job.queued) * 1e3
    return DeadlineError(
        f"The request waited {waited:,.0f} ms and could not be answered by its deadline any more.",
        "Ask again, or give it more time (X-Deadline-Ms).",
    )
