"""When a request came: not when the event loop read it, but when its bytes reached the host."""

from __future__ import annotations

import asyncio
import socket
import struct

_LENGTH = 56
_LAST_DATA_RECEIVED = 52
"""Where ``struct tcp_info`` of Linux holds the milliseconds since a socket's last segment of data came."""
_MILLISECONDS = struct.Struct("I")
_OPTION = getattr(socket, "TCP_INFO", None) if hasattr(socket, "SO_PEERCRED") else None


class UnreadClock:
    """Tells for how many seconds the newest bytes of a connection have been at the host, while it is open.

    A busy event loop finds out late what came: the kernel knows, as finely as its clock ticks (1 to 10 ms). Where it
    does not tell, bytes count as come when they are read.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._socket: socket.socket | None = None
        connection = transport.get_extra_info("socket")
        if _OPTION and connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            self._socket = socket.socket(fileno=connection.fileno())

    def seconds(self) -> float:
        """Return the time since the newest bytes came, which may not be read yet."""
        if self._socket is None:
            return 0.0
        try:
            info: bytes = self._socket.getsockopt(socket.IPPROTO_TCP, _OPTION, _LENGTH)  # type: ignore[arg-type]
        except OSError:
            return 0.0
        return float(_MILLISECONDS.unpack_from(info, _LAST_DATA_RECEIVED)[0]) / 1e3

    def __del__(self) -> None:
        """Leave the descriptor to the transport, whose it is."""
        if self._socket is not None:
            self._socket.detach()
