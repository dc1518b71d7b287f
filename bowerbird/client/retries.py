"""When to ask again: attempts, waits with jitter, and a budget that keeps retries from making an overload worse."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from bowerbird.errors import InputError


@dataclass(frozen=True)
class Retries:
    """How often a call is tried, and how many retries all calls of a client may make together.

    A call is tried ``attempts`` times. Before the nth retry it waits for a random time up to ``wait`` × 2^(n - 1)
    seconds, ``longest_wait`` at most, beyond what the server's Retry-After says. ``share`` retries are earned by each
    call, and no more than ``reserve`` are kept: with a share of 0.1, a server that fails altogether sees a tenth more
    requests than usual, and not three times as many.
    """

    attempts: int = 3
    wait: float = 0.05
    longest_wait: float = 2.0
    share: float = 0.1
    reserve: float = 10.0

    def __post_init__(self) -> None:
        """Raise InputError for what cannot be."""
        if self.attempts < 1 or min(self.wait, self.longest_wait, self.share, self.reserve) < 0:
            raise InputError(f"{self} cannot be.", "Try once at least, and wait and save no less than nothing.")

    def wait_before(self, retry: int, retry_after: float) -> float:
        """Return the seconds to wait before the ``retry``-th retry (from 1), at random."""
        return retry_after + random.uniform(0.0, min(self.wait * 2.0 ** (retry - 1), self.longest_wait))


class RetryBudget:
    """The retries that a client may still make; shared by its threads."""

    def __init__(self, retries: Retries) -> None:
        self._share = retries.share
        self._reserve = retries.reserve
        self._left = retries.reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Note a call: a part of a retry is earned."""
        with self._lock:
            self._left = min(self._left + self._share, self._reserve)

    def spend(self) -> bool:
        """Take one retry; False where none is left."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True
