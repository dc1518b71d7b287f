"""What connections may do, and how often they did more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class ConnectionLimits:
    """What connections may do, and counts of those that did more, or went to another process.

    ``header_seconds`` is for the head of a request from its first byte on, ``body_seconds`` for all of it,
    ``write_seconds`` for a client that does not take its answer. ``on_close`` is called when a connection has ended.
    """

    connections: int
    header_seconds: float
    body_seconds: float
    write_seconds: float
    timed_out: int = 0
    turned_away: int = 0
    handed_over: int = 0
    on_close: Callable[[], None] = lambda: None
