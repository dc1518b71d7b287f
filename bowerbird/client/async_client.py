"""The asynchronous client: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from bowerbird.client import calls
from bowerbird.client.base import ClientBase, HttpSettings, describe, reply_of, request_of
from bowerbird.client.call import Call, Reply
from bowerbird.client.exchange import Outcome, Send, Wait
from bowerbird.errors import BowerbirdError

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def _method(
    make: Callable[Parameters, Call[Answer]],
) -> Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Answer]]:
    async def method(self: AsyncClient, /, *arguments: Parameters.args, **named: Parameters.kwargs) -> Answer:
        return await self.ask(make(*arguments, **named))

    describe(method, make)
    return method


class AsyncClient(ClientBase):
    """``Client`` for asyncio: the same arguments, methods, answers and errors; belongs to one event loop.

    A call that is cancelled closes its connection.
    """

    score = _method(calls.score)
    recommend = _method(calls.recommend)
    send_events = _method(calls.send_events)
    send_event = _method(calls.send_event)
    entity = _method(calls.entity)
    models = _method(calls.models)
    version = _method(calls.version)
    promote = _method(calls.promote)
    scenes = _method(calls.scenes)
    plan = _method(calls.plan)

    _http: httpx.AsyncClient

    async def ask(self, call: Call[Answer]) -> Answer:
        """Return the answer of a call."""
        steps = self._begin(call)
        step = next(steps)
        while True:
            try:
                step = steps.send(await self._do(call, step))
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    async def ready(self) -> bool:
        """Return whether the server can answer."""
        try:
            await self.ask(calls.readiness())
        except BowerbirdError:
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self, settings: HttpSettings) -> None:
        self._http = httpx.AsyncClient(**settings)

    async def _do(self, call: Call[Any], step: Send | Wait) -> Outcome:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(step.seconds):
                return await self._send(call, step)
        except TimeoutError:
            return httpx.ReadTimeout("the answer came too slowly")
        except httpx.RequestError as error:
            return error

    async def _send(self, call: Call[Any], step: Send) -> Reply:
        response = await self._http.send(request_of(self._http, call, step))
        return reply_of(response, response.content)
