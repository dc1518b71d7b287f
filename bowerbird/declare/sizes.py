"""Sizes of memory as users write them: ``"8GB"``, ``"512MB"``, ``"1048576"``."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_PATTERN = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?B)?$", re.IGNORECASE)


def size_bytes(size: str) -> int:
    """Return a size in bytes (a KB is 1,024); raises ValueError that names the accepted units."""
    found = _PATTERN.match(size.strip())
    if found is None:
        raise ValueError(f"{size!r} is not a size; write a number of bytes, or one with KB, MB, GB or TB")
    return round(float(found[1]) * _UNITS[(found[2] or "").upper()])
