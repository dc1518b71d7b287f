"""Durable files: what is written is whole or absent, and a refusal of the disk is a StorageError."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bowerbird.errors import StorageError

TEMPORARY_PREFIX = ".writing-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the StorageError that says what the file system refused at ``path`` and what to do."""
    if error.errno in _FULL or "No space left" in str(error):
        return StorageError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free space on that disk (or raise the file size limit), then run the command again: "
            "what was stored before is unchanged.",
        )
    return StorageError(
        f"{path}: {error.strerror or error}.",
        "Check that the folder exists, that its permissions let you write, and that the disk is healthy.",
    )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn every OSError of the block into a StorageError about ``path``."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (new and renamed files) durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a closed file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably; raises StorageError."""
    with storage_errors(folder):
        if folder.is_dir():
            return
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a crash leaves the old bytes or the new; raises StorageError."""
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
