"""A few threads that score side by side, behind the admission queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from bowerbird.server.admission import AdmissionQueue, QueueReport, Work, untimed_work
from bowerbird.server.body import ClientGone

Result = TypeVar("Result")
Cancel = Callable[[], None]


class ScoringPool:
    """Runs calls on ``threads`` threads, at most ``limit`` of them waiting; see ``AdmissionQueue``.

    ``on_wait`` is told the seconds that each call waited.
    """

    def __init__(self, threads: int, limit: int, on_wait: Callable[[float], None] = lambda seconds: None) -> None:
        self._queue = AdmissionQueue(threads, limit)
        self._on_wait = on_wait
        self._threads = [
            threading.Thread(target=self._work, name=f"score-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def check(self, work: Work) -> None:
        """Raise OverloadedError or DeadlineError where ``work`` cannot be done in time."""
        self._queue.check(work)

    def wait_seconds(self) -> float:
        """Return for how long a request that came now would wait."""
        return self._queue.wait_seconds()

    def report(self) -> QueueReport:
        """Return the queue's state and counts."""
        return self._queue.report()

    async def run(
        self, work: Work, call: Callable[[float], Result], on_disconnect: Callable[[Cancel], None] | None = None
    ) -> Result:
        """Return what ``call`` returns, which is told the seconds that it waited.

        Raises OverloadedError or DeadlineError where it cannot be in time. ``on_disconnect`` is given what takes the
        call out of the queue when its client goes: ClientGone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(_settle, future, result, error)

        job = self._queue.put(work, call, finish)
        if on_disconnect is not None:
            on_disconnect(partial(self._queue.cancel, job, ClientGone()))
        return await future

    def on_every_thread(self, call: Callable[[], object]) -> None:
        """Run a call on each thread at the same time: what a thread does first, it does slowly."""
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

    def _work(self) -> None:
        while (job := self._queue.take()) is not None:
            result, error = None, None
            waited = job.started - job.queued
            self._on_wait(waited)
            try:
                result = job.call(waited)
            except BaseException as raised:
                error = raised
            self._queue.done(job)
            job.finish(result, error)


def _settle(future: asyncio.Future[Result], result: Result, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
