"""The ASGI application: finds the route, checks key and size, runs the handler, turns errors into problems."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bowerbird.errors import TooLargeError
from bowerbird.server.access import KeyStore
from bowerbird.server.body import ClientGone, Receive, discard_body, read_body
from bowerbird.server.body_memory import BodyMemory, BodyShare
from bowerbird.server.http import Request, Response
from bowerbird.server.observer import Observer
from bowerbird.server.problems import PROBLEMS
from bowerbird.server.request_id import new_request_id
from bowerbird.server.routing import Route, Router

Send = Callable[[dict[str, Any]], Awaitable[None]]
_GIVEN_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_UNROUTED = "unrouted"


class Application:
    """A bare ASGI application over a router."""

    def __init__(
        self, router: Router, keys: KeyStore, body_limit: int, body_memory: BodyMemory, observer: Observer
    ) -> None:
        self._router = router
        self._keys = keys
        self._body_limit = body_limit
        self._body_memory = body_memory
        self._observer = observer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one ASGI connection; only HTTP is spoken."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        request = _request_of(scope)
        share = BodyShare(self._body_memory)
        label, errors, rest_unread = _UNROUTED, PROBLEMS, False
        try:
            route, request.parameters = self._router.find(request.method, request.path)
            label, errors = route.template, route.errors
            response = await self._run(route, request, receive, share)
        except ClientGone:
            return
        except TooLargeError as error:
            response, rest_unread = errors.answer(error, request.id), True
        except Exception as error:
            response = errors.answer(error, request.id)
        finally:
            share.give_back()
        await _send(send, response, request.id, receive if rest_unread else None)
        self._observer.answered(request, label, response)

    async def _run(self, route: Route, request: Request, receive: Receive, share: BodyShare) -> Response:
        if route.scope is not None:
            self._keys.authorise(request.headers, route.scope)
        if route.admit is not None:
            route.admit(request)
        if route.method != "GET":
            request.body = await read_body(receive, request.headers, self._body_limit, share)
        return await route.handler(request)


def _request_of(scope: MutableMapping[str, Any]) -> Request:
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    client = scope.get("client")
    return Request(
        scope["method"],
        scope.get("raw_path", scope["path"].encode()).decode("latin-1"),
        headers,
        scope["query_string"],
        client[0] if client else "",
        given.decode("latin-1") if _GIVEN_ID.fullmatch(given) else new_request_id(),
        scope=scope,
    )


async def _send(send: Send, response: Response, request_id: str, unread: Receive | None) -> None:
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"content-length", str(len(response.body)).encode()),
        (b"x-request-id", request_id.encode("latin-1")),
        *response.headers,
    ]
    if unread is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    if unread is not None:
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        await discard_body(unread)
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": response.body})
