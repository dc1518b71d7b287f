"""Which compiler this is: a program that another one has made is made again."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable


@cache
def compiler_fingerprint() -> str:
    """Return a digest of the compiler's own sources."""
    return fingerprint_of(files("bowerbird.compiler"))


def fingerprint_of(folder: Traversable) -> str:
    """Return a digest of all Python sources in a folder, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, source in sorted(_sources(folder, "")):
        digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()[:16]


def _sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _sources(each, f"{prefix}{each.name}/")
        elif each.name.endswith(".py"):
            found.append((prefix + each.name, each.read_bytes()))
    return found
