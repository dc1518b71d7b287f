"""Durable files and folders: what is written is whole or absent, and a refusal of the disk is a StorageError."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; when the block ends well, sync it and let it replace ``path``.

    A crash leaves the old bytes or the new; the folder is made where it is absent. The unfinished file has one
    name, so that what a killed process left is written over and not kept. Raises StorageError.
    """
    make_folder(path.parent)
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a crash leaves the old bytes or the new; raises StorageError."""
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; when the block ends well, sync it and rename it to ``target``.

    Raises StorageError when ``target`` exists or the file system refuses; what was written is then removed.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with storage_errors(target):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for path in sorted(temporary.rglob("*")):
                sync_file(path)
            sync_folder(temporary)
            if target.exists():
                raise FileExistsError(errno.EEXIST, "it exists already", str(target))
            temporary.rename(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
