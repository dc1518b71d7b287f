"""Reading a request's body under a limit, without ever holding more than the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bowerbird.errors import TooLargeError
from bowerbird.server.web.body_memory import BodyShare

Receive = Callable[[], Awaitable[dict[str, Any]]]
_DRAIN_SECONDS = 10.0


class ClientGone(Exception):
    """The client disconnected before its body was whole: nobody waits for an answer."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int, share: BodyShare) -> bytes:
    """Return the whole body, counted in ``share``.

    TooLargeError from the declared length, or as soon as the limit is passed; OverloadedError without memory.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise TooLargeError(
            f"The body has {int(declared):,} bytes; the limit is {limit:,}.",
            "Send less, or raise server.body_limit.",
        )
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    first: bytes = message.get("body", b"")
    share.take(len(first))
    if not message.get("more_body", False):
        _check(len(first), limit)
        return first
    return await _read_rest(receive, first, limit, share)


async def _read_rest(receive: Receive, first: bytes, limit: int, share: BodyShare) -> bytes:
    chunks, size, more = [first], len(first), True
    while more:
        _check(size, limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        share.take(len(chunk))
        chunks.append(chunk)
        size += len(chunk)
        more = message.get("more_body", False)
    _check(size, limit)
    return b"".join(chunks)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise TooLargeError(f"The body has more than {limit:,} bytes.", "Send less, or raise server.body_limit.")


async def discard_body(receive: Receive) -> None:
    """Read and drop what the client still sends, for a bounded time.

    Closing a socket with unread bytes resets the connection, and the client would lose the answer.
    """
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
