"""A disk that loses power: notes how much of each file was synced, so that a test can drop the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def watch(sync: Callable[[int], None], notes: Path) -> Callable[[int], None]:
    """Return ``sync`` that writes down a file's length as it was before it was synced."""

    def watched(descriptor: int) -> None:
        status, path = os.fstat(descriptor), Path(f"/proc/self/fd/{descriptor}").readlink()
        sync(descriptor)
        if path.suffix == ".wal":
            note = os.open(notes / path.name, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(note, f"{status.st_size:020d}".encode(), 0)
            os.close(note)

    return watched


def drop_unsynced(wal_folder: Path, notes: Path) -> int:
    """Cut every segment to what was synced, as a power failure may; return how many bytes went."""
    dropped = 0
    for segment in wal_folder.glob("*.wal"):
        note = notes / segment.name
        if note.is_file():
            size = segment.stat().st_size
            kept = min(size, int(note.read_text()))
            dropped += size - kept
            os.truncate(segment, kept)
    return dropped


def lose_power(notes: Path) -> None:
    """Make this process note what it syncs."""
    os.fdatasync = watch(os.fdatasync, notes)
    os.fsync = watch(os.fsync, notes)
