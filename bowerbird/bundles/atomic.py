"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bowerbird.errors import StorageError


def write_file(path: Path, data: bytes) -> None:
    """Replace a file by ``data``, durably; raises StorageError when the file system refuses."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; when the block ends well, sync it and rename it to ``target``.

    Raises StorageError when ``target`` exists or the file system refuses; what was written is then removed.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _sync(path)
        _sync(temporary)
        if target.exists():
            raise FileExistsError(17, "it exists already", str(target))
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error of a file system that refused."""
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Check free space and permissions, then run again.",
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
