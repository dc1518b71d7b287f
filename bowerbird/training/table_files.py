"""Snapshots of native tables beside a run's checkpoints."""

from __future__ import annotations

from pathlib import Path

from bowerbird.embedding.collection import EmbeddingCollection

_FOLDER = "tables"


class TableFiles:
    """One file for each native table and step: ``tables/<vocabulary's place>-<step>.table``.

    They are written before the checkpoint that refers to them, and kept while a checkpoint may need them.
    """

    def __init__(self, folder: Path, collection: EmbeddingCollection) -> None:
        self.folder = folder / _FOLDER
        self.collection = collection
        self._kept: list[set[int]] = []

    def save(self, step: int) -> None:
        """Write all native tables as they are after ``step``; raises StorageError."""
        for name, trained in self.collection.native.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._file(name, step)
            if not file.is_file():
                trained.table.snapshot(file)

    def load(self, step: int) -> None:
        """Set all native tables to what they were after ``step``; raises CorruptionError, NotFoundError."""
        for name in self.collection.native:
            self.collection.restore_table(name, self._file(name, step))

    def keep(self, *steps: int) -> None:
        """Remove files of steps that neither this checkpoint nor the one before needs."""
        files = {file: int(file.stem.partition("-")[2]) for file in self.folder.glob("*.table")}
        self._kept = [*(self._kept[-1:] or [set(files.values())]), set(steps)]
        for file, step in files.items():
            if all(step not in needed for needed in self._kept):
                file.unlink()

    def _file(self, vocabulary: str, step: int) -> Path:
        return self.folder / f"{self.collection.vocabularies.index(vocabulary)}-{step}.table"
