"""A table as servers have it: a file that is mapped and never written, and over it the rows that changed since."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.embedding.key_index import RESERVED_ROWS
from bowerbird.embedding.table import Keys, Rows, Vectors, refusals
from bowerbird.plan.spec import MISSING_KEY

RowFormat: TypeAlias = Literal["fp32", "fp16", "int8"]
"""How a file keeps rows; int8 has a float32 scale a row."""
_GONE = -1
ROW_FORMATS: tuple[RowFormat, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class TableChange:
    """What changed of a table: vectors float32 [n, dimension] of keys uint64 [n], and the keys that went.

    ``reserved`` float32 [2, dimension] are the rows of missing and of unknown keys where these changed.
    """

    keys: Keys
    vectors: Vectors
    removed: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    reserved: Vectors | None = None

    def __len__(self) -> int:
        """Return how many keys are affected."""
        return len(self.keys) + len(self.removed)

    @staticmethod
    def of_delta(path: Path) -> TableChange:
        """Return what ``Table.delta`` wrote to a file; raises CorruptionError, NotFoundError, InputError."""
        with refusals():
            keys, rows, removed = _native.table_delta_rows(str(path))
        return TableChange(keys, rows[RESERVED_ROWS:], removed, rows[:RESERVED_ROWS])


class ServedTable:
    """Keys and rows of a mapped file, under the rows that changed since; immutable, for any number of threads.

    Processes share the file's pages. A row that changes gets a number that no row had before: what was computed from
    the old one and is kept by its number is not taken for the new one's.
    """

    def __init__(self, native: _native.ServedTable) -> None:
        self.native = native

    @staticmethod
    def open(path: Path, *, verify: bool = False) -> ServedTable:
        """Map a file; its size and header are checked, and with ``verify`` all of it.

        Raises CorruptionError where it is damaged or cut short, NotFoundError, StorageError.
        """
        with refusals():
            return ServedTable(_native.ServedTable(str(path), verify))

    @property
    def dimension(self) -> int:
        """The width of a row."""
        return self.native.dimension

    @property
    def format(self) -> RowFormat:
        """How the file keeps rows."""
        return self.native.format

    @property
    def file_bytes(self) -> int:
        """The size of the file."""
        return self.native.file_bytes

    @property
    def changed_keys(self) -> int:
        """How many keys are not as in the file."""
        return self.native.changed_keys

    @property
    def changed_bytes(self) -> int:
        """The memory that changed rows take, of this process alone."""
        return self.native.changed_bytes

    def __len__(self) -> int:
        """Return how many keys the file has."""
        return len(self.native)

    def find(self, keys: Keys) -> Rows:
        """Return each key's row, int64 in the keys' shape."""
        return self.native.find(np.ascontiguousarray(keys).reshape(-1)).reshape(keys.shape)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Vectors:
        """Return the vectors of rows [n], float32 [n, dimension]; raises InputError for a row that is not there."""
        with refusals():
            return self.native.take(np.ascontiguousarray(rows, np.int64))

    def file_keys(self) -> tuple[Keys, Rows]:
        """Return the file's keys, uint64 [n], and their rows in it, int64 [n] ascending."""
        with refusals():
            return self.native.file_keys()

    def known_keys(self) -> Keys:
        """Return the keys that have a row, uint64 [n] ascending."""
        changed, rows = self.native.changed()
        known: Keys = np.union1d(np.setdiff1d(self.file_keys()[0], changed), changed[rows != _GONE])
        return known

    def verify(self) -> None:
        """Read the file and compare it with its checksums; raises CorruptionError."""
        with refusals():
            self.native.verify()

    def with_change(self, change: TableChange) -> ServedTable:
        """Return a table with a change, which shares the file and what changed before with this one."""
        reserved = change.reserved
        with refusals():
            return ServedTable(
                self.native.with_changes(
                    np.ascontiguousarray(change.keys, np.uint64),
                    np.ascontiguousarray(change.vectors, np.float32),
                    np.ascontiguousarray(change.removed, np.uint64),
                    None if reserved is None else np.ascontiguousarray(reserved, np.float32),
                )
            )

    def moved_rows(self, before: ServedTable) -> tuple[Rows, Rows]:
        """Return the rows that keys had in an earlier table, int64 [n] ascending, and have now, where these differ.

        Keys that had none of their own then are left out, as one row stood for all of them.
        """
        keys, _ = self.native.changed()
        keys = np.append(keys, np.uint64(MISSING_KEY))
        old, new = before.find(keys), self.find(keys)
        moved = (old != new) & (old != before.native.unknown_row)
        order = np.argsort(old[moved])
        return old[moved][order], new[moved][order]

    def change_to(self, keys: Keys, rows: Vectors) -> TableChange:
        """Return what would make this the table of distinct ``keys`` [n] with ``rows`` [n + 2, dimension].

        What the file holds rounded counts as unchanged.
        """
        reserved, vectors = rows[:RESERVED_ROWS], rows[RESERVED_ROWS:]
        places = self.find(keys)
        held = self.take(places)
        same = (held == vectors).all(axis=1) | (held == rounded(vectors, self.format)).all(axis=1)
        changed = (places == self.native.unknown_row) | ~same
        present = self.known_keys()
        missing = self.find(np.array([MISSING_KEY], np.uint64))[0]
        now = self.take(np.array([missing, self.native.unknown_row]))
        kept = np.array_equal(now, reserved) or np.array_equal(now, rounded(reserved, self.format))
        return TableChange(
            keys[changed], vectors[changed], present[~np.isin(present, keys)], None if kept else reserved
        )


def write_served_table(path: Path, keys: Keys, rows: Vectors, format: RowFormat = "fp32") -> None:
    """Write a file for ``ServedTable.open``, which appears whole or not at all.

    ``rows`` are float32 [len(keys) + 2, dimension]: of the missing key, of unknown keys, then of ``keys``, which are
    distinct. Raises InputError for keys that are not, StorageError.
    """
    with refusals():
        _native.write_served_table(str(path), np.ascontiguousarray(keys), np.ascontiguousarray(rows), format)


def rounded(rows: Vectors, format: RowFormat) -> Vectors:
    """Return rows [n, dimension] as a file of ``format`` gives them back, float32."""
    if format == "fp32":
        return rows
    if format == "fp16":
        with np.errstate(over="ignore"):
            return rows.astype(np.float16).astype(np.float32)
    greatest = np.abs(rows).max(axis=1, initial=0.0)
    scales = np.where(greatest > 0, greatest / np.float32(127), np.float32(1)).astype(np.float32)[:, None]
    back: Vectors = np.rint(rows / scales).astype(np.float32) * scales
    return back
