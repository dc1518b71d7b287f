"""HTTP as bytes over a socket: what a client library would not send."""

from __future__ import annotations

import socket

from tests.server.slow_server import PATH


def connect(port: int) -> socket.socket:
    """Open a connection to a server on this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def post(body: bytes = b"abc", more: str = "", version: str = "1.1") -> bytes:
    """Return a request's bytes; ``more`` are header lines."""
    head = f"POST {PATH} HTTP/{version}\r\nhost: x\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Return status, headers and body of so many answers."""
    data, found = b"", []
    while len(found) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        length = int(headers.get(b"content-length", b"0"))
        if end and len(rest) >= length:
            found.append((int(lines[0].split()[1]), headers, rest[:length]))
            data = rest[length:]
            continue
        part = connection.recv(65536)
        assert part, (found, data)
        data += part
    return found
