"""A few threads that score side by side, behind a bounded queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from bowerbird.errors import UnavailableError

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")
_WAITING_PER_THREAD = 64


class ScoringPool:
    """Runs calls on ``threads`` threads; refuses when too many wait, instead of answering everyone late."""

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._threads = ThreadPoolExecutor(threads, "score")
        self._limit = threads * (1 + _WAITING_PER_THREAD)
        self._inside = 0

    async def run(
        self, call: Callable[Parameters, Result], *arguments: Parameters.args, **_: Parameters.kwargs
    ) -> Result:
        """Return ``call(*arguments)``; raises UnavailableError when the queue is full."""
        if self._inside >= self._limit:
            raise UnavailableError(f"{self._inside} requests are waiting.", "Ask again in a second, or add servers.")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        finally:
            self._inside -= 1

    def on_every_thread(self, call: Callable[[], object]) -> None:
        """Run a call on each thread at the same time: what a thread does first, it does slowly."""
        together = threading.Barrier(self._count)

        def run_once() -> None:
            together.wait()
            call()

        for running in [self._threads.submit(run_once) for _ in range(self._count)]:
            running.result()

    def close(self) -> None:
        """Let running calls end and stop the threads."""
        self._threads.shutdown(wait=True)
