"""The imported log on disk: one writer, parts first, then the manifest that makes them count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from bowerbird.declare.records import Event, Table
from bowerbird.durable import storage_errors
from bowerbird.log.imported.manifest import MANIFEST_FILE, Manifest, Part, read_manifest, write_manifest
from bowerbird.log.imported.parts import DAY, date_of, read_part, write_part
from bowerbird.log.imported.spill import STAGING_FOLDER, remove_folder
from bowerbird.log.lock import FolderLock
from bowerbird.log.schema import AVAILABLE, ID, record_schema

_LOCK_REMEDY = "Wait until that ingest has ended; the folder unlocks by itself when its process ends."


class LogStore:
    """A log folder opened for writing; raises UnavailableError while another process writes.

    What an interrupted ingest left behind is removed on opening.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FolderLock(folder, _LOCK_REMEDY)
        self.manifest: Manifest = read_manifest(folder)
        self._parts: list[Part] = []
        self._remove_orphans()

    @property
    def staging_folder(self) -> Path:
        """Where an ingest may keep files until it commits."""
        return self.folder / STAGING_FOLDER

    def stored_ids(self, record: Event | Table) -> Iterator[pa.ChunkedArray]:
        """Yield the ids of a type's records that are already in the log, a part at a time."""
        for part in self.manifest.of_type(record.name):
            yield read_part(self.folder, part, record_schema(record), [ID]).column(ID)

    def add(self, name: str, table: pa.Table) -> None:
        """Write new records of a type, a part a day; they count from ``commit`` on."""
        days = table.column(AVAILABLE).to_numpy() // DAY
        for day in np.unique(days):
            rows = table.filter(pa.array(days == day))
            self._parts.append(write_part(self.folder, name, date_of(int(day)), rows))

    def commit(self) -> None:
        """Make the added records part of the log, all at once; nothing changes where there are none."""
        if self._parts:
            self.manifest = self.manifest.extended(self._parts)
            write_manifest(self.folder, self.manifest)
            self._parts = []

    def replace(self, parts: Mapping[Part, Part]) -> None:
        """Put parts in the place of others, all at once; the old files go when the store is closed."""
        if parts:
            kept = [parts.get(part, part) for part in self.manifest.parts]
            self.manifest = Manifest(self.manifest.generation + 1, sorted(kept))
            write_manifest(self.folder, self.manifest)

    def close(self) -> None:
        """Remove what was not committed and let the next writer in."""
        try:
            self._remove_orphans()
        finally:
            self._lock.release()

    def __enter__(self) -> LogStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _remove_orphans(self) -> None:
        kept = {self.folder / part.file for part in self.manifest.parts} | {self.folder / MANIFEST_FILE}
        with storage_errors(self.folder):
            remove_folder(self.staging_folder)
            for pattern in (".writing-*", "*/date=*/part-*.parquet", "*/date=*/.writing-*"):
                for path in self.folder.glob(pattern):
                    if path not in kept:
                        path.unlink()
