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
        self._body = self._whole = 0
        self._chunk = 0
        self._status = 0
        self._connecting = False
        self._last = False

    def send(self, request: bytes) -> int:
        """Begin to send; returns 0, or the code of what went wrong at once."""
        self._received.clear()
        self._whole = self._chunk = 0
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

    def body(self) -> str:
        """Return what the last answer said, until the next request is sent; of one in chunks, with their sizes."""
        return self._received[self._body : self._whole].decode(errors="replace").strip()

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
        try:
            if not self._is_whole():
                return 0
        except ValueError:
            return self._fail(MALFORMED)
        if self._last:
            self.close()
        return self._status

    def _is_whole(self) -> bool:
        """Return whether the answer has come; ValueError where its status, length or chunks cannot be read."""
        if not self._whole and not self._chunk:
            self._read_head()
        if self._chunk:
            self._skip_chunks()
        return 0 < self._whole <= len(self._received)

    def _read_head(self) -> None:
        """Read status and length once the head is whole."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        self._body = end + 4
        self._status = int(head[9:12])
        self._last = b"\r\nconnection: close" in head
        if b"\r\ntransfer-encoding: chunked" in head:
            self._chunk = end + 4
        else:
            length = head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
            self._whole = end + 4 + int(length)

    def _skip_chunks(self) -> None:
        """Go to the first chunk that is not whole; behind the last, empty one the answer ends."""
        while not self._whole:
            end = self._received.find(b"\r\n", self._chunk)
            if end < 0:
                return
            size = int(self._received[self._chunk : end].split(b";")[0], 16)
            following = end + 2 + size + 2
            if size == 0:
                self._whole = following
            elif following > len(self._received):
                return
            self._chunk = following

    def _fail(self, code: int) -> int:
        self.close()
        return code
