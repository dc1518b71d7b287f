"""The manifest of the imported log: which parts it consists of. Replacing it is the commit of an ingest."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bowerbird.durable import storage_errors, write_atomically
from bowerbird.errors import CorruptionError

MANIFEST_FILE = "manifest.json"


class Part(msgspec.Struct, frozen=True, order=True):
    """A Parquet file of one record type and one UTC day of ``_available``, relative to the log's folder."""

    type: str
    date: str
    file: str
    rows: int


class Manifest(msgspec.Struct, frozen=True):
    """The log's parts; ``generation`` counts the ingests that changed it."""

    generation: int = 0
    parts: list[Part] = []

    @property
    def rows(self) -> int:
        """Return how many records are imported: the LSN that follows the last of them."""
        return sum(part.rows for part in self.parts)

    def of_type(self, name: str) -> list[Part]:
        """Return a record type's parts."""
        return [part for part in self.parts if part.type == name]

    def dates(self) -> list[str]:
        """Return the days that have records, ascending."""
        return sorted({part.date for part in self.parts})

    def extended(self, parts: list[Part]) -> Manifest:
        """Return the manifest of the next generation, with more parts."""
        return Manifest(self.generation + 1, sorted([*self.parts, *parts]))


def read_manifest(folder: Path) -> Manifest:
    """Return a log folder's manifest, empty where nothing was ingested; raises CorruptionError."""
    path = folder / MANIFEST_FILE
    with storage_errors(path):
        if not path.is_file():
            return Manifest()
        content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise CorruptionError(
            f"{path} is not a log manifest: {error}.",
            "Restore it from a backup, or delete the log folder and ingest again.",
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the current one, atomically and durably; raises StorageError."""
    write_atomically(folder / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
