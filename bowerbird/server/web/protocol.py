"""HTTP/1.1 connections within bounds: how many, how long a request may take to arrive and an answer to be taken."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bowerbird.errors import OverloadedError
from bowerbird.server.application import OPENED, Application, Opened
from bowerbird.server.web.arrival import unread_clock
from bowerbird.server.web.connection_limits import ConnectionLimits
from bowerbird.server.web.exchange import Exchange, begin_exchange
from bowerbird.server.web.http import DISCONNECT, Request, Response

_LOG = logging.getLogger("bowerbird.server")
_SWEEP_SECONDS = 0.5
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
Give = Callable[[socket.socket], bool]
"""Hands a connection to another process, and says whether that was possible."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's connection, closed when it is one too many or too slow; tells the request when its client goes.

    A request is opened by its head. What is refused is answered there and then, without a task of its own, and the
    body that may follow is dropped: under overload, refusals have to cost next to nothing. What may be read whole is an
    ``Exchange``: a model leaves little of the server in the caches, so that each step less between the bytes and the
    handler is felt. Uvicorn's own way is for the rest: pipelined requests, chunked bodies, bodies above the limit.
    ``asked`` counts its requests.
    """

    def __init__(self, limits: ConnectionLimits, application: Application, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._application = application
        self._unread: Callable[[], float] = lambda: 0.0
        self._refused = False
        self._reading: Exchange | None = None
        self._give: Give | None = None
        self.asked = 0
        self._in_message = False
        self._began = 0.0
        self._in_body = False
        self._blocked = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away with 503 when there are too many."""
        super().connection_made(transport)
        self._unread = unread_clock(transport)
        self._wait_for_next()
        if len(self.connections) > self._limits.connections:
            self._limits.turned_away += 1
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the request that is not answered yet know that nobody waits for it."""
        super().connection_lost(exc)
        self._began = self._blocked = 0.0
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
        if not self._began:
            self._began = time.monotonic()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock of a request whose first bytes came with the end of the one before."""
        self.asked += 1
        self._in_message = True
        self._began = self._began or time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse the request by its head, or begin it; its body may take longer than its head."""
        self._in_body = True
        self._unset_keepalive_if_required()
        if self._is_idle():
            opened = self._application.open(self._request())
            if not self.expect_100_continue and opened.request.method != "HEAD":
                if opened.refusal is not None:
                    self._refuse(opened, opened.refusal)
                    return
                if not self._blocked:
                    self._reading = begin_exchange(self._application, opened, self._keeps_alive())
                if self._reading is not None:
                    self.cycle = self._reading  # type: ignore[assignment]
                    return
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
            if self._keeps_alive():
                self._wait_for_next()
                self._leave_soon()
            else:
                self.transport.close()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, here or in another process."""
        super().on_response_complete()
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
        """End the connection when a request or an answer has taken too long."""
        if self._blocked and now - self._blocked > self._limits.write_seconds:
            self._limits.timed_out += 1
            self.transport.abort()
        elif self._began and now - self._began > self._request_seconds():
            self._limits.timed_out += 1
            if not self._refused and (self._is_idle() or not self.cycle.response_started):
                self.transport.write(_TIMED_OUT)
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

    def _keeps_alive(self) -> bool:
        return self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()

    def _request(self) -> Request:
        url = httptools.parse_url(self.url)
        return Request(
            self.parser.get_method().decode("ascii"),
            url.path.decode("latin-1"),
            dict(self.headers),
            url.query or b"",
            self.client[0] if self.client else "",
            arrived=time.monotonic() - self._unread(),
        )

    def _refuse(self, opened: Opened, refusal: Response) -> None:
        """Answer a request whose body is not read."""
        self._refused = True
        self.server_state.total_requests += 1
        self._write(opened, refusal, self._keeps_alive())

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
        task = self.loop.create_task(self._answer(exchange))
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            response = await self._application.answer(exchange.opened)
        finally:
            exchange.share.give_back()
        exchange.response_started = exchange.response_complete = True
        if response is None or self.transport.is_closing():
            return
        self._write(exchange.opened, response, exchange.keep_alive)
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            self.transport.close()
        elif task.exception() is not None:
            _LOG.error("a connection ended by an error", exc_info=task.exception())
            self.transport.close()

    def _write(self, opened: Opened, response: Response, keep_alive: bool) -> None:
        headers = [*self.server_state.default_headers, *response.head(opened.request.id)]
        if not keep_alive:
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % each for each in headers]
        self.transport.write(b"".join([STATUS_LINE[int(response.status)], *lines, b"\r\n", response.body]))
        self._application.answered(opened, response)

    def _wait_for_next(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _request_seconds(self) -> float:
        return self._limits.body_seconds if self._in_body else self._limits.header_seconds


async def sweep(connections: Callable[[], set[Any]]) -> None:
    """Look for slow connections twice a second, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        now = time.monotonic()
        for connection in list(connections()):
            connection.close_if_slow(now)
