"""The synchronous client: the server's nouns as methods, its errors as the classes that it raised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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


def _method(make: Callable[Parameters, Call[Answer]]) -> Callable[Concatenate[Client, Parameters], Answer]:
    def method(self: Client, /, *arguments: Parameters.args, **named: Parameters.kwargs) -> Answer:
        return self.ask(make(*arguments, **named))

    describe(method, make)
    return method


class Client(ClientBase):
    """Talks to one server; may be shared by threads and used as a context manager.

    ``key`` is an API key. ``timeout`` is in seconds, for a whole call with its retries; the server is told what is left
    of it. ``connections`` is the most that are open at a time. Methods raise the server's ``BowerbirdError``s,
    UnavailableError where it cannot be reached, DeadlineError after ``timeout``. What may be sent twice is sent again,
    within the budget of ``retries``, when the server is overloaded, restarts or loses the connection.
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

    _http: httpx.Client

    def ask(self, call: Call[Answer]) -> Answer:
        """Return the answer of a call."""
        steps = self._begin(call)
        step = next(steps)
        while True:
            try:
                step = steps.send(self._do(call, step))
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    def ready(self) -> bool:
        """Return whether the server can answer."""
        try:
            self.ask(calls.readiness())
        except BowerbirdError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, settings: HttpSettings) -> None:
        self._http = httpx.Client(**settings)

    def _do(self, call: Call[Any], step: Send | Wait) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        try:
            return self._send(call, step)
        except httpx.RequestError as error:
            return error

    def _send(self, call: Call[Any], step: Send) -> Reply:
        until = time.monotonic() + step.seconds
        response = self._http.send(request_of(self._http, call, step), stream=True)
        try:
            return reply_of(response, b"".join(_in_time(response, until)))
        finally:
            response.close()


def _in_time(response: httpx.Response, until: float) -> Iterator[bytes]:
    """Yield the parts of a body; httpx bounds the wait for each part, this bounds them all."""
    for part in response.iter_bytes():
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the body came too slowly", request=response.request)
        yield part
