"""The ASGI application: finds the route, checks key and size, runs the handler, turns errors into problems."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from bowerbird.errors import TooLargeError
from bowerbird.server.observe.observer import Observer
from bowerbird.server.web.access import KeyStore
from bowerbird.server.web.body import ClientGone, Receive, discard_body, read_body
from bowerbird.server.web.body_memory import BodyMemory, BodyShare
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.problems import PROBLEMS
from bowerbird.server.web.routing import Route, Router

Send = Callable[[dict[str, Any]], Awaitable[None]]
OPENED = "bowerbird.opened"
"""Where an ASGI scope holds a request that was opened by its head."""
_UNROUTED = "unrouted"


@dataclass(slots=True)
class Opened:
    """A request as far as its head tells: its route, or the ``refusal`` that its head is answered with."""

    request: Request
    route: Route | None = None
    refusal: Response | None = None

    @property
    def label(self) -> str:
        """The route's template."""
        return self.route.template if self.route is not None else _UNROUTED

    def problem(self, error: Exception) -> Response:
        """Return the answer to what went wrong, in the route's form; the error holds no frame any more.

        One of its frames holds the future that holds it: all of them would wait for a collection of cycles.
        """
        errors = self.route.errors if self.route is not None else PROBLEMS
        response = errors.answer(error, self.request.id)
        error.__traceback__ = None
        return response


class Application:
    """A bare ASGI application over a router.

    A server may ``open`` a request as soon as its head is there: what its head refuses needs no task and no body. One
    that has read a body whole may ``begin`` to answer it without ASGI's messages.
    """

    def __init__(
        self, router: Router, keys: KeyStore, body_limit: int, body_memory: BodyMemory, observer: Observer
    ) -> None:
        self._router = router
        self._keys = keys
        self.body_limit = body_limit
        self._body_memory = body_memory
        self._observer = observer

    def open(self, request: Request) -> Opened:
        """Find a request's route, check its key and admit it by its head."""
        opened = Opened(request)
        try:
            opened.route, request.parameters = self._router.find(request.method, request.path)
            if opened.route.scope is not None:
                self._keys.authorise(request.headers, opened.route.scope)
            if opened.route.admit is not None:
                opened.route.admit(request)
        except Exception as error:
            opened.refusal = opened.problem(error)
        return opened

    def share(self) -> BodyShare:
        """Return one request's share of the memory for bodies, still empty."""
        return BodyShare(self._body_memory)

    def begin(self, opened: Opened) -> asyncio.Future[Response]:
        """Begin to answer a request that has its body; what can be told at once, the future has at once."""
        assert opened.route is not None
        try:
            return asyncio.ensure_future(opened.route.handler(opened.request))
        except Exception as error:
            refused: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    def response(self, opened: Opened, answer: asyncio.Future[Response]) -> Response | None:
        """Return what to send where ``answer`` is done; None where the client has gone."""
        try:
            return answer.result()
        except ClientGone as gone:
            gone.__traceback__ = None
            return None
        except Exception as error:
            return opened.problem(error)

    def answered(self, opened: Opened, response: Response) -> None:
        """Note that a request's answer was sent."""
        self._observer.answered(opened.request, opened.label, response)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one ASGI connection; only HTTP is spoken."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        opened: Opened = scope.pop(OPENED, None) or self.open(_request_of(scope))
        request = opened.request
        request.scope, request.client = scope, _client(scope)
        share = self.share()
        rest_unread = False
        try:
            response = opened.refusal or await self._run(opened, receive, share)
        except ClientGone:
            return
        except TooLargeError as error:
            response, rest_unread = opened.problem(error), True
        except Exception as error:
            response = opened.problem(error)
        finally:
            share.give_back()
        await _send(send, response, request.id, receive if rest_unread else None)
        self.answered(opened, response)

    async def _run(self, opened: Opened, receive: Receive, share: BodyShare) -> Response:
        request, route = opened.request, opened.route
        assert route is not None
        if route.method != "GET":
            request.body = await read_body(receive, request.headers, self.body_limit, share)
        return await route.handler(request)


def _request_of(scope: MutableMapping[str, Any]) -> Request:
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    return Request(scope["method"], path, dict(scope["headers"]), scope["query_string"], _client(scope))


def _client(scope: MutableMapping[str, Any]) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _send(send: Send, response: Response, request_id: str, unread: Receive | None) -> None:
    headers = response.head(request_id)
    if unread is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    if unread is not None:
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        await discard_body(unread)
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": response.body})
