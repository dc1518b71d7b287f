"""HTTP/1.1 connections within bounds: how many, how long a request may take to arrive and an answer to be taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bowerbird.server.http import DISCONNECT

_SWEEP_SECONDS = 0.5
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass
class ConnectionLimits:
    """What connections may do, and counts of those that did more.

    ``header_seconds`` is for the head of a request from its first byte on, ``body_seconds`` for all of it,
    ``write_seconds`` for a client that does not take its answer. ``on_close`` is called when a connection has ended.
    """

    connections: int
    header_seconds: float
    body_seconds: float
    write_seconds: float
    timed_out: int = 0
    turned_away: int = 0
    on_close: Callable[[], None] = lambda: None


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's connection, closed when it is one too many or too slow; tells the request when its client goes."""

    def __init__(self, limits: ConnectionLimits, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._began = 0.0
        self._in_body = False
        self._blocked = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away with 503 when there are too many."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if len(self.connections) > self._limits.connections:
            self._limits.turned_away += 1
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the request that is not answered yet know that nobody waits for it."""
        super().connection_lost(exc)
        self._began = self._blocked = 0.0
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

    def on_headers_complete(self) -> None:
        """Begin the request; its body may take longer than its head."""
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the request's clock."""
        self._in_body = False
        self._began = 0.0
        super().on_message_complete()

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
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                self.transport.write(_TIMED_OUT)
            self.transport.close()

    def _request_seconds(self) -> float:
        return self._limits.body_seconds if self._in_body else self._limits.header_seconds


async def sweep(connections: Callable[[], set[Any]]) -> None:
    """Look for slow connections twice a second, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        now = time.monotonic()
        for connection in list(connections()):
            connection.close_if_slow(now)
