"""One keep-alive connection that never blocks: HTTP/1.1 as far as a load test needs it."""

from __future__ import annotations

import selectors
import socket

DISCONNECT, MALFORMED, CONNECT, TIMEOUT = -1, -2, -3, -4
"""What became of a request that got no answer, where an answer has its status."""
_READ_BYTES = 1 << 18
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class Connection:
    """Sends one request at a time and reads its answer; connects again where it was closed."""

    def __init__(self, address: tuple[str, int], selector: selectors.BaseSelector) -> None:
        self._address = address
        self._selector = selector
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._received = bytearray()
        self._whole = 0
        self._status = 0
        self._connecting = False
        self._last = False

    def send(self, request: bytes) -> int:
        """Begin to send; returns 0, or the code of what went wrong at once."""
        self._received.clear()
        self._whole = 0
        if self._socket is None:
            self._unsent = request
            return self._connect()
        return self._write(request)

    def proceed(self, events: int) -> int:
        """Go on after the selector's events; returns 0 while under way, then the answer's status or a code below 0."""
        if events & selectors.EVENT_WRITE:
            failed = self._proceed_writing()
            if failed:
                return failed
        return self._read() if events & selectors.EVENT_READ else 0

    def close(self) -> None:
        """Close the socket; the next request opens another."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket, self._unsent, self._connecting = None, b"", False

    def _connect(self) -> int:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, _BOTH, self)
        self._connecting = True
        try:
            self._socket.connect(self._address)
        except BlockingIOError:
            return 0
        except OSError:
            return self._fail(CONNECT)
        return 0

    def _proceed_writing(self) -> int:
        assert self._socket is not None
        if self._connecting:
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self._fail(CONNECT)
            self._connecting = False
        failed = self._write(self._unsent)
        if not failed and not self._unsent:
            self._selector.modify(self._socket, selectors.EVENT_READ, self)
        return failed

    def _write(self, data: bytes) -> int:
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._fail(DISCONNECT)
        rest = data[sent:]
        if rest and not self._unsent:
            self._selector.modify(self._socket, _BOTH, self)
        self._unsent = rest
        return 0

    def _read(self) -> int:
        assert self._socket is not None
        try:
            part = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            return self._fail(DISCONNECT)
        if not part:
            return self._fail(DISCONNECT)
        self._received += part
        if not self._whole and not self._read_head():
            return self._fail(MALFORMED)
        if not self._whole or len(self._received) < self._whole:
            return 0
        if self._last:
            self.close()
        return self._status

    def _read_head(self) -> bool:
        """Read status and length once the head is whole; False where there is no length or no status."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return True
        head = bytes(self._received[:end]).lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        length = rest.split(b"\r\n", 1)[0].strip()
        if not (found and length.isdigit() and head[9:12].isdigit()):
            return False
        self._status, self._whole = int(head[9:12]), end + 4 + int(length)
        self._last = b"\r\nconnection: close" in head
        return True

    def _fail(self, code: int) -> int:
        self.close()
        return code
