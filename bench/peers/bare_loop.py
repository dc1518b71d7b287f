"""An event loop alone: reads requests by their content-length and answers each with bytes that are ready.

    python bare_loop.py PORT LENGTH

What sockets, the kernel and waking up cost, without HTTP, JSON or any work.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)")


class _Bare(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.WriteTransport, transport).write

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, _, body = self._read.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if found and len(body) >= int(found[1]):
            self._read = b""
            self._write(self._answer)


async def _serve(port: int, length: int) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nserver-timing: none;dur=0\r\n\r\n" % length
    server = await asyncio.get_running_loop().create_server(lambda: _Bare(head + bytes(length)), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
