"""One writer per folder: an advisory lock that the kernel frees when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bowerbird.durable import make_folder, storage_errors
from bowerbird.errors import StorageError, UnavailableError

LOCK_FILE = "LOCK"


class FolderLock:
    """An exclusive lock on a folder, held from construction until ``release``.

    Raises UnavailableError with ``remedy`` and the holder's process id when another writer has it.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        make_folder(folder)
        path = folder / LOCK_FILE
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise UnavailableError(f"{folder} is being written by process {holder or 'unknown'}.", remedy) from error
        try:
            with storage_errors(path):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except StorageError:
            self.release()
            raise

    def release(self) -> None:
        """Let the next writer in; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
