"""Slate ids: unguessable, sortable by time, and holding what the slate's features had seen.

An exposure that echoes its ``slate_id`` thereby carries the (LSN, request time) of its features, so that
making samples needs no join with the served slates.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass

from bowerbird.errors import InputError

_TIME_BYTES, _LSN_BYTES, _RANDOM_BYTES, _CHECK_BYTES = 7, 6, 10, 2
SLATE_ID_LENGTH = 40


@dataclass(frozen=True)
class SlateId:
    """A decoded id: the log records that the slate saw (``lsn``) and its request time in microseconds."""

    lsn: int
    time: int


def new_slate_id(lsn: int, time: int) -> str:
    """Return 40 characters that sort by ``time`` (microseconds since 1970) and hold 80 random bits."""
    body = time.to_bytes(_TIME_BYTES) + lsn.to_bytes(_LSN_BYTES) + secrets.token_bytes(_RANDOM_BYTES)
    return base64.b32hexencode(body + _check(body)).decode().lower()


def read_slate_id(text: str) -> SlateId:
    """Return what an id holds; InputError where it was not made by ``new_slate_id``."""
    try:
        data = base64.b32hexdecode(text.upper()) if len(text) == SLATE_ID_LENGTH else b""
    except (binascii.Error, ValueError):
        data = b""
    body = data[:-_CHECK_BYTES]
    if not data or _check(body) != data[-_CHECK_BYTES:]:
        raise InputError(f"{text!r} is not a slate id.", "Echo `slate_id` exactly as the server answered it.")
    lsn_start = _TIME_BYTES
    return SlateId(lsn=int.from_bytes(body[lsn_start : lsn_start + _LSN_BYTES]), time=int.from_bytes(body[:lsn_start]))


def made_before(text: str, time: float) -> bool:
    """Return whether an id's request time is before ``time`` (microseconds); False for what is no slate id."""
    try:
        return read_slate_id(text).time < time
    except InputError:
        return False


def _check(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0).to_bytes(_CHECK_BYTES)
