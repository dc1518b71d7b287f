"""Calls that score, behind the admission queue: on a few threads, or between the event loop's other work."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from bowerbird.server.load.admission import AdmissionQueue, Job, QueueReport, Work, untimed_work
from bowerbird.server.web.body import ClientGone

Result = TypeVar("Result")
Cancel = Callable[[], None]
OnWait = Callable[[float], None]
_LOOK_SECONDS = 0.2
_TURNS = 3
"""Turns of the event loop between two calls: its sockets are read, what came is begun, and what waits on that goes on.
With fewer, an event batch or an answer would wait for a whole call at each of these steps."""
_REST_SECONDS = 0.02
_REST_SHARE = 0.1
"""While requests are refused, calls follow each other for so long, or for this share of their time if that is less,
before sockets are looked at again: refusals that come together cost half of what they cost between calls, where each
finds the processor's caches full of a model and leaves them empty of it."""


class ScoringPool(ABC):
    """Runs calls, at most ``limit`` of them waiting; see ``AdmissionQueue``. ``on_wait`` is told what each waited."""

    def __init__(self, lanes: int, limit: int, on_wait: OnWait) -> None:
        self._queue = AdmissionQueue(lanes, limit)
        self._on_wait = on_wait

    def check(self, work: Work) -> None:
        """Raise OverloadedError or DeadlineError where ``work`` cannot be done in time."""
        self._queue.check(work)

    def wait_seconds(self) -> float:
        """Return for how long a request that came now would wait."""
        return self._queue.wait_seconds()

    def report(self) -> QueueReport:
        """Return the queue's state and counts."""
        return self._queue.report()

    def run(
        self, work: Work, call: Callable[[float], Result], on_disconnect: Callable[[Cancel], None] | None = None
    ) -> asyncio.Future[Result]:
        """Return what will have what ``call`` returns, which is told the seconds that it waited.

        Raises OverloadedError or DeadlineError where it cannot be in time: at once, so that whatever comes next is told
        of what is queued here. ``on_disconnect`` is given what takes the call out of the queue when its client goes:
        ClientGone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        job = self._queue.put(work, call, partial(self._settle, loop, future))
        self._added()
        if on_disconnect is not None:
            on_disconnect(partial(self._cancel, job))
        return future

    @abstractmethod
    async def serve(self) -> None:
        """Do on the event loop what the pool has to do there, until cancelled."""

    @abstractmethod
    def on_every_thread(self, call: Callable[[], object]) -> None:
        """Run a call on each thread that scores: what a thread does first, it does slowly."""

    @abstractmethod
    def close(self) -> None:
        """Let queued calls end and stop."""

    @abstractmethod
    def _settle(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        """Give a future what became of its call."""

    @abstractmethod
    def _added(self) -> None:
        """Note that a call waits."""

    def _cancel(self, job: Job) -> None:
        self._queue.cancel(job, ClientGone())

    def _execute(self, job: Job) -> None:
        waited = job.started - job.queued
        self._on_wait(waited)
        try:
            result = job.call(waited)
        except BaseException as error:
            self._queue.done(job)
            job.end(None, error)
        else:
            self._queue.done(job)
            job.end(result, None)


class ThreadPool(ScoringPool):
    """Runs calls on ``threads`` threads, side by side."""

    def __init__(self, threads: int, limit: int, on_wait: OnWait = lambda seconds: None) -> None:
        super().__init__(threads, limit, on_wait)
        self._threads = [
            threading.Thread(target=self._work, name=f"score-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def serve(self) -> None:
        """The threads do it all."""

    def on_every_thread(self, call: Callable[[], object]) -> None:
        """Run a call on each thread at the same time."""
        together = threading.Barrier(len(self._threads))
        errors: list[BaseException] = []
        ended = threading.Semaphore(0)

        def run_once(_: float) -> None:
            together.wait()
            call()

        def finish(result: object, error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            ended.release()

        for _ in self._threads:
            self._queue.put(untimed_work(), run_once, finish)
        for _ in self._threads:
            ended.acquire()
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Let queued calls end and stop the threads."""
        self._queue.close()
        for thread in self._threads:
            thread.join()

    def _settle(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(_give, future, result, error)

    def _added(self) -> None:
        """The queue has woken a thread."""

    def _work(self) -> None:
        while (job := self._queue.take()) is not None:
            self._execute(job)


class LoopPool(ScoringPool):
    """Runs calls on the event loop's own thread, one at a time, and lets the loop look at its sockets in between.

    No thread competes with the loop for the interpreter or the core, so what comes is seen within the time of one call,
    however many come; within 20 ms while requests are refused. What comes when nothing waits runs where it came: a turn
    of the loop is not much, but between two runs of a model all of it is cold.
    """

    def __init__(self, limit: int, on_wait: OnWait = lambda seconds: None) -> None:
        super().__init__(1, limit, on_wait)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more = asyncio.Event()
        self._idle = False
        self._free_since = 0.0

    async def serve(self) -> None:
        """Run what is queued, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._free_since = looked = time.monotonic()
        refused = 0
        try:
            while True:
                job = self._run_next()
                if job is None:
                    await self._rest_until_more()
                elif self._queue.refused > refused and self._free_since - looked < _rest(job.work):
                    continue
                looked, refused = self._free_since, self._queue.refused
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
        finally:
            self._loop = None
            self._idle = False

    def on_every_thread(self, call: Callable[[], object]) -> None:
        """Run a call on the loop's thread, from another one; here, where no loop runs."""
        loop = self._loop
        if loop is None:
            call()
            return

        async def run_here() -> None:
            await self.run(untimed_work(), lambda waited: call())

        called = asyncio.run_coroutine_threadsafe(run_here(), loop)
        while self._loop is not None:
            with suppress(TimeoutError):
                called.result(_LOOK_SECONDS)
                return

    def close(self) -> None:
        """There is nothing to stop."""

    def _settle(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        _give(future, result, error)

    def _added(self) -> None:
        if self._idle:
            self._idle = False
            self._run_next()
        self._more.set()

    def _run_next(self) -> Job | None:
        """Run the next call that can still be in time, and return it."""
        job = self._queue.take_now(self._free_since)
        if job is not None:
            self._execute(job)
            self._free_since = time.monotonic()
        return job

    async def _rest_until_more(self) -> None:
        self._more.clear()
        self._idle = True
        await self._more.wait()


def make_pool(threads: int, limit: int, on_wait: OnWait) -> ScoringPool:
    """Return a pool of so many threads; with none, the event loop's own is used."""
    return ThreadPool(threads, limit, on_wait) if threads else LoopPool(limit, on_wait)


def _rest(work: Work) -> float:
    return min(_REST_SECONDS, _REST_SHARE * (work.deadline - work.arrived))


def _give(future: asyncio.Future[Result], result: Result, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
