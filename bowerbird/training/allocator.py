"""Memory that is freed after one step and asked for again in the next."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt(3)."""
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed blocks of up to a gibibyte for this process; return whether it can.

    Otherwise it gives every large buffer back to the system and each training step pays again for touching fresh
    pages, which can cost more than the arithmetic. It holds for the whole process, until its end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _KEPT_BYTES), (_TRIM_THRESHOLD, 2 * _KEPT_BYTES - 1), (_TOP_PAD, _KEPT_BYTES >> 4))
    return all([mallopt(name, value) == 1 for name, value in settings])
