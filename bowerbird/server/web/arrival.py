"""When a request came: not when the event loop read it, but when its bytes reached the host."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

_LENGTH = 56
_LAST_DATA_RECEIVED = 52
"""Where ``struct tcp_info`` of Linux holds the milliseconds since a socket's last segment of data came."""
_MILLISECONDS = struct.Struct("I")


def unread_clock(transport: asyncio.BaseTransport) -> Callable[[], float]:
    """Return what tells for how many seconds the newest bytes of a connection have been at the host.

    A busy event loop finds out late what came: the kernel knows, as finely as its clock ticks (1 to 10 ms). Where it
    does not tell, bytes count as come when they are read.
    """
    option = getattr(socket, "TCP_INFO", None) if hasattr(socket, "SO_PEERCRED") else None
    connection = transport.get_extra_info("socket")
    if option is None or connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return lambda: 0.0

    def seconds() -> float:
        try:
            info: bytes = connection.getsockopt(socket.IPPROTO_TCP, option, _LENGTH)
        except OSError:
            return 0.0
        return float(_MILLISECONDS.unpack_from(info, _LAST_DATA_RECEIVED)[0]) / 1e3

    return seconds
