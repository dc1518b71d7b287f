"""Segments of the log of slates: files on which their writer holds a lock until it ends them or dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".slates"
_LOCK_FILE = "LOCK"


@dataclass(frozen=True)
class Segment:
    """A file of ``bytes`` that was last written at ``written`` (seconds since 1970)."""

    file: Path
    bytes: int
    written: float


def segment_files(folder: Path) -> list[Path]:
    """Return a folder's segments in the order in which they were begun; files that are being replaced are none."""
    return sorted(folder.glob(f"[!.]*{_SUFFIX}"))


def open_segments(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield a folder's segments, open to be read; one that is removed meanwhile is left out."""
    for file in segment_files(folder):
        try:
            stream = file.open("rb")
        except FileNotFoundError:
            continue
        with stream:
            yield file, stream


def segments_by_age(folder: Path) -> list[Segment]:
    """Return a folder's segments by the time of their last write, the longest ago first."""
    found = []
    for file in segment_files(folder):
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        found.append(Segment(file, status.st_size, status.st_mtime))
    return sorted(found, key=lambda segment: segment.written)


def begin_segment(folder: Path) -> tuple[Path, int]:
    """Make a segment and return it with its descriptor, locked until that is closed; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        file = folder / f"{time.time_ns():020d}-{os.getpid()}{_SUFFIX}"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            raise
        if os.fstat(descriptor).st_nlink:
            return file, descriptor
        os.close(descriptor)  # removed before it was locked


def remove_segment(file: Path) -> bool:
    """Delete a segment unless a live process writes it, and return whether it is gone; raises OSError."""
    try:
        with file.open("r+b") as stream:
            if not _locked(stream.fileno()):
                return False
            file.unlink()
    except FileNotFoundError:
        pass
    return True


@contextmanager
def sole_remover(folder: Path) -> Iterator[bool]:
    """Give whether this process is the only one that may remove segments of a folder within the block.

    Writes nothing but the lock's empty file, so that a full disk can be made less full; raises OSError.
    """
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
