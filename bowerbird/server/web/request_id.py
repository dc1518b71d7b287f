"""Ids of requests, for logs and problem documents."""

from __future__ import annotations

import secrets


def new_request_id() -> str:
    """Return 16 random hexadecimal digits."""
    return secrets.token_hex(8)
