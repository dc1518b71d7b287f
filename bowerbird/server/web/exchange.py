"""A request that is read whole and answered at once: the HTTP connection's short way, without ASGI's messages."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from bowerbird.server.application import Application, Opened
from bowerbird.server.web.body_memory import BodyShare
from bowerbird.server.web.http import Request


class _Nobody:
    """An event that nobody waits for."""

    def set(self) -> None:
        """Do nothing."""


class Exchange:
    """One such request, its body as it comes, and how far its answer is.

    It stands where uvicorn's connection keeps its cycle, so what uvicorn reads or sets there has uvicorn's names.
    """

    message_event = _Nobody()

    def __init__(self, opened: Opened, share: BodyShare, keep_alive: bool) -> None:
        self.opened = opened
        self.share = share
        self.keep_alive = keep_alive
        self.response_started = self.response_complete = self.disconnected = False
        self._chunks: list[bytes] = []

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """Where the request notes what to call when its client goes."""
        return self.opened.request.scope

    def take(self, chunk: bytes) -> None:
        """Keep a part of the body; raises OverloadedError where bodies take too much memory."""
        self.share.take(len(chunk))
        self._chunks.append(chunk)

    def end_body(self) -> None:
        """Give the request its body."""
        self.opened.request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()


def begin_exchange(application: Application, opened: Opened, keep_alive: bool) -> Exchange | None:
    """Return the exchange of a request that may be read whole; None where ASGI's messages are needed."""
    if not _is_bounded(opened.request, application.body_limit):
        return None
    return Exchange(opened, application.share(), keep_alive)


def _is_bounded(request: Request, limit: int) -> bool:
    return b"transfer-encoding" not in request.headers and request.body_length <= limit
