"""Source files as batches of raw Arrow columns with their line numbers, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.errors import InputError
from bowerbird.log.rows.faults import EMPTY_FILE, UNREADABLE_FILE

BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class RawBatch:
    """Rows of a file: raw columns, and int64 [n] line numbers (rows of Parquet and tables count from 1)."""

    rows: pa.RecordBatch
    lines: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unreadable:
    """A line, or from ``line`` on the rest of a file, that is no row; ``text`` is what stands there."""

    line: int
    reason: str
    detail: str
    text: str = ""


class RawReader(Protocol):
    """One file of one format."""

    def columns(self) -> list[str]:
        """Return the names of the file's columns; empty when nothing can be read."""

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the rows with the given columns, in order, and what is not a row."""

    def fraction(self) -> float:
        """Return how much has been read, 0 to 1."""


class EmptyReader:
    """A file without a byte."""

    def columns(self) -> list[str]:
        """Return no column."""
        return []

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the fact that the file is empty."""
        yield Unreadable(0, EMPTY_FILE, "the file has no content")

    def fraction(self) -> float:
        """Return 1."""
        return 1.0


class ParquetReader:
    """A Parquet file, read a batch of rows at a time."""

    def __init__(self, path: Path) -> None:
        self._failure = ""
        self._done = self._rows = 0
        try:
            self._file = pq.ParquetFile(path)
            self._rows = self._file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            self._failure = str(error)

    def columns(self) -> list[str]:
        """Return the names of the top-level columns."""
        return [] if self._failure else list(self._file.schema_arrow.names)

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the rows; where the file is damaged, the rows before it and then the damage."""
        if self._failure:
            yield Unreadable(0, UNREADABLE_FILE, self._failure)
            return
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                first = self._done + 1
                self._done += batch.num_rows
                yield RawBatch(batch, np.arange(first, first + batch.num_rows))
        except (pa.ArrowInvalid, OSError) as error:
            yield Unreadable(self._done + 1, UNREADABLE_FILE, str(error))

    def fraction(self) -> float:
        """Return the share of rows read."""
        return float(self._done / max(1, self._rows))


class TableReader:
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._done = 0

    def columns(self) -> list[str]:
        """Return the table's column names."""
        return list(self._table.column_names)

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the table's rows."""
        for start in range(0, self._table.num_rows, BATCH_ROWS):
            part = self._table.select(list(columns)).slice(start, BATCH_ROWS).combine_chunks()
            self._done = start + part.num_rows
            yield RawBatch(part.to_batches()[0], np.arange(start + 1, self._done + 1))

    def fraction(self) -> float:
        """Return the share of rows read."""
        return float(self._done / max(1, self._table.num_rows))


def raw_row(batch: RawBatch, row: int) -> dict[str, Any]:
    """Return one row as the file has it; what is not UTF-8 shows as replacement characters."""
    columns = zip(batch.rows.schema.names, batch.rows.columns, strict=True)
    return {name: _raw_value(column[row]) for name, column in columns}


def _raw_value(scalar: pa.Scalar) -> Any:
    if scalar.is_valid and pa.types.is_string(scalar.type):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "replace")
    return scalar.as_py()


def source_files(raw_folder: Path, pattern: str, source: str) -> list[Path]:
    """Return the files of a glob relative to ``raw_folder``, sorted; raises InputError when there is none."""
    root = Path(pattern)
    files = sorted(root.parent.glob(root.name) if root.is_absolute() else raw_folder.glob(pattern))
    found = [file for file in files if file.is_file()]
    if not found:
        raise InputError(
            f"Source {source!r} finds no file {pattern!r} in {raw_folder}.",
            "Put the files there, or change the source's `files` or `paths.raw` in bowerbird.toml.",
        )
    return found
