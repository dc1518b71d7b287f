"""Between a supervisor and a worker: connections go one way, what became of them the other.

Each message is one packet of a socket pair; a connection is a packet with a file descriptor.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from bowerbird.errors import BowerbirdError, error_from

_PACKET_BYTES = 1 << 16
_CONNECTION = b"connection"


class Ready(msgspec.Struct, tag=True):
    """The worker answers now; ``summary`` says what it serves, in lines for people."""

    summary: list[str]


class Failed(msgspec.Struct, tag=True):
    """The worker could not start."""

    code: str
    what: str
    remedy: str

    def error(self) -> BowerbirdError:
        """Return the error that kept it from starting."""
        return error_from(self.code, self.what, self.remedy)


class Connections(msgspec.Struct, tag=True):
    """How many connections the worker has taken since its start, and how many of them are open."""

    taken: int
    open: int


Report = Ready | Failed | Connections
_DECODER = msgspec.msgpack.Decoder(Report)


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the worker's; neither blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def hand_over(end: socket.socket, connection: socket.socket) -> bool:
    """Give a worker a connection; False where it does not take it."""
    try:
        socket.send_fds(end, [_CONNECTION], [connection.fileno()])
    except OSError:
        return False
    return True


def taken_over(end: socket.socket) -> list[socket.socket] | None:
    """Return the connections that wait at a worker's end; None once the supervisor has gone."""
    connections: list[socket.socket] = []
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(end, len(_CONNECTION), 1)
        except BlockingIOError:
            return connections
        except OSError:
            return connections or None
        if not packet:
            return connections or None
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            connections.append(connection)


def report(end: socket.socket, what: Report) -> None:
    """Tell the supervisor something; a report of connections that finds no room is followed by newer ones."""
    with suppress(OSError):
        end.send(msgspec.msgpack.encode(what))


def reports(end: socket.socket) -> tuple[list[Report], bool]:
    """Return what a worker has told, and whether it may tell more."""
    told: list[Report] = []
    while True:
        try:
            packet = end.recv(_PACKET_BYTES)
        except BlockingIOError:
            return told, True
        except OSError:
            return told, False
        if not packet:
            return told, False
        told.append(_DECODER.decode(packet))


@dataclass
class Load:
    """A worker's connections as its supervisor knows them."""

    given: int = 0
    taken: int = 0
    open: int = 0

    @property
    def connections(self) -> int:
        """How many it has, with those on their way."""
        return self.open + self.given - self.taken
