"""Answers that are sent together, at the end of the event loop's turn."""

from __future__ import annotations

import asyncio


class Outbox:
    """Bytes for connections, in the order in which they were put.

    To send is to wake whoever receives, and who is awake is not woken again: refusals, which come by the dozen, are
    cheaper to send one after another than between other work.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Keep bytes until this turn of the event loop ends, or until ``send``."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.send)
        self._waiting.append((transport, data))

    def send(self) -> None:
        """Send what was put, which has to go before anything else that its connection sends."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)
