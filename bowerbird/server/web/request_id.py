"""Ids of requests, for logs and problem documents."""

from __future__ import annotations

import os
from random import Random

_RANDOM = Random()
os.register_at_fork(after_in_child=_RANDOM.seed)


def new_request_id() -> str:
    """Return 16 random hexadecimal digits: told apart from others, and no secret."""
    return f"{_RANDOM.getrandbits(64):016x}"
