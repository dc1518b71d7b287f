"""HTTP/1.1 connections within bounds: how many, how long a request may take to arrive and an answer to be taken."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bowerbird.errors import OverloadedError
from bowerbird.server.application import OPENED, Application, Opened
from bowerbird.server.web.arrival import UnreadClock
from bowerbird.server.web.connection_limits import ConnectionLimits
from bowerbird.server.web.exchange import Exchange, begin_exchange
from bowerbird.server.web.http import DISCONNECT, Request, Response
from bowerbird.server.web.outbox import Outbox

_LOG = logging.getLogger("bowerbird.server")
_SWEEP_SECONDS = 0.5
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
Give = Callable[[socket.socket], bool]
"""Hands a connection to another process, and says whether that was possible."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's connection, closed when it is one too many or too slow; tells the request when its client goes.

    A request is opened by its head. What is refused is answered in the same turn of the loop, without a task, and the
    body that may follow is dropped: under overload, refusals have to cost next to nothing. They leave by the
    ``outbox``, which is emptied before the connection sends anything else. What may be read whole is an ``Exchange``: a
    model leaves little of the server in the caches, so that each step less between the bytes and the handler is felt.
    Uvicorn's own way is for the rest: pipelined requests, chunked bodies, bodies above the limit. ``asked`` counts its
    requests.
    """

    _clock: UnreadClock

    def __init__(
        self, limits: ConnectionLimits, application: Application, outbox: Outbox, *arguments: Any, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._application = application
        self._outbox = outbox
        self._refused = False
        self._reading: Exchange | None = None
        self._give: Give | None = None
        self.asked = 0
        self._in_message = False
        self._keep_alive = False
        self._idle_since = 0.0
        self._began = 0.0
        self._in_body = False
        self._blocked = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away with 503 when there are too many."""
        super().connection_made(transport)
        self._clock = UnreadClock(transport)
        self._wait_for_next()
        if len(self.connections) > self._limits.connections:
            self._limits.turned_away += 1
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the request that is not answered yet know that nobody waits for it."""
        super().connection_lost(exc)
        self._began = self._blocked = self._idle_since = 0.0
        if self._reading is not None:
            self._reading.share.give_back()
            self._reading = None
        if self.cycle is not None and not self.cycle.response_complete:
            gone: Callable[[], None] | None = self.cycle.scope.get(DISCONNECT)  # type: ignore[assignment]
            if gone is not None:
                gone()
        self._limits.on_close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock of a request starts with its first one."""
        self._idle_since = 0.0
        if not self._began:
            self._began = time.monotonic()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock of a request whose first bytes came with the end of the one before."""
        self.asked += 1
        self._in_message = True
        self._began = self._began or time.monotonic()
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Refuse the request by its head, or begin it; its body may take longer than its head."""
        self._in_body = True
        self._keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        opened = None
        if self._is_idle():
            opened = self._application.open(self._request())
            if not self.expect_100_continue and opened.request.method != "HEAD":
                if opened.refusal is not None:
                    self._refuse(opened, opened.refusal)
                    return
                if not self._blocked:
                    self._reading = begin_exchange(self._application, opened, self._keep_alive)
                if self._reading is not None:
                    self.cycle = self._reading  # type: ignore[assignment]
                    return
        self._begin_scope()
        if opened is not None:
            self.scope[OPENED] = opened  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; drop it where the request was refused."""
        if self._reading is not None:
            self._read(self._reading, body)
        elif not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the request's clock."""
        self._in_message = self._in_body = False
        self._began = 0.0
        if self._reading is not None:
            self._begin(self._reading)
            self._reading = None
        elif self._refused:
            self._refused = False
            if self._keep_alive:
                self._wait_for_next()
                self._leave_soon()
            else:
                self._outbox.send()
                self.transport.close()
        else:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, after what it came behind."""
        self._outbox.send()
        super().send_400_response(msg)

    def shutdown(self) -> None:
        """Close the connection once what was asked is answered."""
        self._outbox.send()
        super().shutdown()

    def on_response_complete(self) -> None:
        """Wait for the next request, here or in another process."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._wait_for_next()
        self._leave_soon()

    def give_away(self, give: Give | None) -> None:
        """Leave this process as soon as there is nothing of the connection in it but the socket; None takes it back."""
        self._give = give
        self._leave_soon()

    def pause_writing(self) -> None:
        """Start the clock of an answer that the client does not take."""
        self._blocked = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stop it."""
        self._blocked = 0.0
        super().resume_writing()

    def close_if_slow(self, now: float) -> None:
        """End the connection when a request, an answer or the time between them has taken too long."""
        if self._blocked and now - self._blocked > self._limits.write_seconds:
            self._limits.timed_out += 1
            self.transport.abort()
        elif self._began and now - self._began > self._request_seconds():
            self._limits.timed_out += 1
            if not self._refused and (self._is_idle() or not self.cycle.response_started):
                self.transport.write(_TIMED_OUT)
            self.transport.close()
        elif self._idle_since and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()

    def _leave_soon(self) -> None:
        if self._give is not None:
            self.loop.call_soon(self._leave)  # the last answer's bytes are in the socket by then

    def _leave(self) -> None:
        give, transport = self._give, self.transport
        if give is None or not self._is_idle() or self._in_message or self.pipeline or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            return
        self._give = None
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
            given = give(connection)
        if given:
            self._limits.handed_over += 1
            transport.abort()  # closes this process's descriptor alone

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _begin_scope(self) -> None:
        """Make what uvicorn makes of every request's beginning, for one that is left to it."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope's own list

    def _request(self) -> Request:
        url = httptools.parse_url(self.url)
        return Request(
            self.parser.get_method().decode("ascii"),
            url.path.decode("latin-1"),
            dict(self.headers),
            url.query or b"",
            self.client[0] if self.client else "",
            arrived=time.monotonic() - self._clock.seconds(),
        )

    def _refuse(self, opened: Opened, refusal: Response) -> None:
        """Answer a request whose body is not read."""
        self._refused = True
        self.server_state.total_requests += 1
        self._outbox.put(self.transport, self._bytes(opened, refusal, self._keep_alive))
        self._application.answered(opened, refusal)

    def _read(self, exchange: Exchange, chunk: bytes) -> None:
        try:
            exchange.take(chunk)
        except OverloadedError as error:
            self._reading = None
            exchange.share.give_back()
            exchange.response_complete = True
            self._refuse(exchange.opened, exchange.opened.problem(error))

    def _begin(self, exchange: Exchange) -> None:
        exchange.end_body()
        answer = self._application.begin(exchange.opened)
        if answer.done():
            self._end(exchange, answer)
            return
        self.tasks.add(answer)  # type: ignore[arg-type]
        answer.add_done_callback(partial(self._end, exchange))

    def _end(self, exchange: Exchange, answer: asyncio.Future[Response]) -> None:
        self.tasks.discard(answer)
        exchange.share.give_back()
        exchange.response_started = exchange.response_complete = True
        try:
            self._respond(exchange, self._application.response(exchange.opened, answer))
        except asyncio.CancelledError:
            self.transport.close()
        except Exception:
            _LOG.exception("a connection ended by an error")
            self.transport.close()

    def _respond(self, exchange: Exchange, response: Response | None) -> None:
        if response is None or self.transport.is_closing():
            return
        self._outbox.send()
        self.transport.write(self._bytes(exchange.opened, response, exchange.keep_alive))
        self._application.answered(exchange.opened, response)
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _bytes(self, opened: Opened, response: Response, keep_alive: bool) -> bytes:
        headers = [*self.server_state.default_headers, *response.head(opened.request.id)]
        if not keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"\r\n".join(map(b": ".join, headers))
        return b"".join([STATUS_LINE[int(response.status)], lines, b"\r\n\r\n", response.body])

    def _wait_for_next(self) -> None:
        self._idle_since = time.monotonic()

    def _request_seconds(self) -> float:
        return self._limits.body_seconds if self._in_body else self._limits.header_seconds


async def sweep(connections: Callable[[], set[Any]]) -> None:
    """Look for slow connections twice a second, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        _close_slow(connections())


def _close_slow(connections: set[Any]) -> None:
    """In a frame of its own: the sweep's would hold the last one, with its request, while it sleeps."""
    now = time.monotonic()
    for connection in list(connections):
        connection.close_if_slow(now)
