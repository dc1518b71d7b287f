"""A tiny server as a process of its own: fast, but for one stall of known length, and for paths that misbehave.

    python -m tests.loadtest.peer STALL_AT STALL_SECONDS

prints its port. The stall begins STALL_AT seconds after the first request and holds everything up.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    def __init__(self, stall_at: float, stall_seconds: float) -> None:
        self._begin, self._seconds = stall_at, stall_seconds
        self._first = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self._stall()
                await self._answer(head.split(b" ", 2)[1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _stall(self) -> None:
        now = time.monotonic()
        self._first = self._first or now
        left = self._first + self._begin + self._seconds - now
        if 0 < left <= self._seconds:
            time.sleep(left)

    async def _answer(self, path: bytes, writer: asyncio.StreamWriter) -> None:
        if path == b"/full":
            writer.write(b"HTTP/1.1 429 Full\r\ncontent-length: 9\r\n\r\n[no room]")
        elif path == b"/drop":
            raise ConnectionError
        elif path == b"/odd":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        elif path == b"/slow":
            await asyncio.sleep(60)
        elif path == b"/parts":
            for part in (OK[:9], OK[9:30], OK[30:-1], OK[-1:]):
                writer.write(part)
                await asyncio.sleep(0.002)
        elif path == b"/chunks":
            answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;more=yes\r\n}\r\n0\r\n\r\n"
            for at in range(0, len(answer), 7):
                writer.write(answer[at : at + 7])
                await asyncio.sleep(0.001)
        elif path == b"/not-chunks":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        elif path == b"/once":
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await writer.drain()
            raise ConnectionError
        else:
            writer.write(OK)


async def main() -> None:
    peer = Peer(float(sys.argv[1]), float(sys.argv[2]))
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(stall_at: float = 1e9, stall_seconds: float = 0.0) -> Iterator[str]:
    """Run the server; yields its address."""
    command = [sys.executable, "-m", "tests.loadtest.peer", str(stall_at), str(stall_seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(main())
