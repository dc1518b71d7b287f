"""Between a supervisor and a worker: connections go both ways, and what is to be known of them.

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


class Busy(msgspec.Struct, tag=True):
    """How many cores the worker kept busy in the last half second."""

    cores: float


class GiveAway(msgspec.Struct, tag=True):
    """The worker is to give back connections that keep about so many cores busy."""

    cores: float


Message = Ready | Failed | Connections | Busy | GiveAway
_DECODER = msgspec.msgpack.Decoder(Message)


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the worker's; neither blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def hand_over(end: socket.socket, connection: socket.socket) -> bool:
    """Give the other side a connection; False where it does not take it."""
    try:
        socket.send_fds(end, [_CONNECTION], [connection.fileno()])
    except OSError:
        return False
    return True


def tell(end: socket.socket, what: Message) -> None:
    """Tell the other side something; what finds no room is followed by newer messages."""
    with suppress(OSError):
        end.send(msgspec.msgpack.encode(what))


def received(end: socket.socket) -> tuple[list[Message | socket.socket], bool]:
    """Return the messages and connections that wait at an end, and whether more may come.

    A connection for which this process has no descriptor left is lost.
    """
    found: list[Message | socket.socket] = []
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(end, _PACKET_BYTES, 1)
        except BlockingIOError:
            return found, True
        except OSError:
            return found, False
        if not packet:
            return found, False
        found += map(_connection, descriptors) if packet == _CONNECTION else [_DECODER.decode(packet)]


def _connection(descriptor: int) -> socket.socket:
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)
    return connection


@dataclass
class Load:
    """A worker's connections, and how many cores it keeps busy, as its supervisor knows them."""

    given: int = 0
    taken: int = 0
    open: int = 0
    cores: float = 0.0
    given_since: int = 0

    @property
    def connections(self) -> int:
        """How many it has, with those on their way."""
        return self.open + self.given - self.taken

    def note(self, cores: float) -> None:
        """Take the worker's word of how busy it is."""
        self.cores = cores
        self.given_since = 0

    def expected(self, each: float) -> float:
        """Return how many cores will be busy where each connection that was given since keeps so many busy."""
        return self.cores + self.given_since * each
