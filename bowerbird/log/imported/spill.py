"""A heap of records that outgrows memory: it is split to files, so that each split can be taken in alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.durable import make_folder, storage_errors

STAGING_FOLDER = ".staging"
MEMORY_LIMIT = 512 << 20
"""Bytes of records held in memory before they are split to files."""

Splitter = Callable[[pa.Table], npt.NDArray[np.int64]]


def remove_folder(folder: Path) -> None:
    """Delete a folder and what is in it, where it exists."""
    if folder.is_dir():
        shutil.rmtree(folder)


class Spill:
    """Tables of one schema, gathered; ``split`` gives every row the number of its share.

    While they fit in ``limit`` bytes (default: ``MEMORY_LIMIT``) there is one share, number 0, in memory.
    """

    def __init__(self, folder: Path, split: Splitter, limit: int | None = None) -> None:
        self._folder = folder
        self._split = split
        self._limit = MEMORY_LIMIT if limit is None else limit
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._files: dict[int, pa.RecordBatchStreamWriter] = {}

    def add(self, table: pa.Table) -> None:
        """Add records; raises StorageError when they must go to a disk that is full."""
        if table.num_rows == 0:
            return
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes > self._limit:
            self._flush()

    def shares(self) -> Iterator[pa.Table]:
        """Yield every share; equal rows of a splitter's number are in one share."""
        if not self._files:
            if self._tables:
                yield pa.concat_tables(self._tables)
            return
        self._flush()
        for number, writer in sorted(self._files.items()):
            with storage_errors(self._path(number)):
                writer.close()
                with pa.OSFile(str(self._path(number))) as file, pa.ipc.open_stream(file) as stream:
                    table = stream.read_all()
                self._path(number).unlink()
            yield table

    def _flush(self) -> None:
        if not self._tables:
            return
        make_folder(self._folder)
        table = pa.concat_tables(self._tables)
        numbers = self._split(table)
        with storage_errors(self._folder):
            for number in np.unique(numbers):
                self._writer(int(number), table.schema).write_table(table.filter(pa.array(numbers == number)))
        self._tables, self._bytes = [], 0

    def _writer(self, number: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if number not in self._files:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._files[number] = pa.ipc.new_stream(str(self._path(number)), schema, options=options)
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self._folder / f"share-{number}.arrow"
