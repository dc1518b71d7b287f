"""A bundle's mapped tables, compared with their hashes while a server answers."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

from bowerbird.bundles.bundle import TABLE_FOLDER
from bowerbird.bundles.manifest import Manifest
from bowerbird.errors import CorruptionError

_PIECE_BYTES = 4 << 20
_PAUSES = 9.0
"""So many times as long as a piece took there is a pause: a tenth of one core."""


def check_slowly(folder: Path, manifest: Manifest, stopping: threading.Event) -> bool:
    """Read a bundle's tables with pauses and return whether they were read wholly before ``stopping`` was set.

    Raises CorruptionError for one that is not what was published.
    """
    for name, entry in manifest.files.items():
        if not name.startswith(TABLE_FOLDER):
            continue
        found = _hashed(folder / name, stopping)
        if found is None:
            return False
        if found != entry.sha256:
            raise CorruptionError(
                f"{folder / name} is not what was published.", "Restore the file, or publish the version again."
            )
    return True


def _hashed(path: Path, stopping: threading.Event) -> str | None:
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while True:
                started = time.perf_counter()
                piece = file.read(_PIECE_BYTES)
                if not piece:
                    return hashed.hexdigest()
                hashed.update(piece)
                if stopping.wait(_PAUSES * (time.perf_counter() - started)):
                    return None
    except OSError as error:
        raise CorruptionError(f"{path} cannot be read: {error}.", "Restore the file.") from error
