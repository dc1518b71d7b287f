"""Long looks into the log, in child processes: one at a time, a few waiting, each within a time limit."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from bowerbird.errors import UnavailableError, error_from
from bowerbird.monitoring.process import Outcome, Task

_MODULE = "bowerbird.monitoring.process"
_WAITING = 4
_SECONDS = 120.0


class Children:
    """Runs tasks of ``bowerbird.monitoring.process``."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._turn = asyncio.Semaphore(1)
        self._inside = 0

    async def run(self, task: Task) -> Outcome:
        """Return a task's outcome; raises its error, and UnavailableError when too many wait or it takes too long."""
        if self._inside > _WAITING:
            raise UnavailableError(
                f"{self._inside} looks into the log are under way.", "Ask again later, or use `bowerbird explain`."
            )
        self._inside += 1
        try:
            async with self._turn:
                outcome = await self._run(task)
        finally:
            self._inside -= 1
        if outcome.failure is not None:
            raise error_from(outcome.failure.code, outcome.failure.what, outcome.failure.remedy)
        return outcome

    async def _run(self, task: Task) -> Outcome:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", _MODULE, stdin=pipe, stdout=pipe)
        try:
            asking = child.communicate(msgspec.json.encode(task))
            answer, _ = await asyncio.wait_for(asking, self._seconds)
        except TimeoutError as error:
            raise UnavailableError(
                f"The log was not read within {self._seconds:g} s.", "Use `bowerbird explain`, which may take longer."
            ) from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise UnavailableError(f"Reading the log ended with code {child.returncode}.", "See the server's log.")
        return msgspec.json.decode(answer, type=Outcome)
