"""Parquet parts of the imported log: written whole under the name of their content, read by column."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bowerbird.durable import TEMPORARY_PREFIX, make_folder, storage_errors, sync_file, sync_folder
from bowerbird.errors import CorruptionError, InputError
from bowerbird.log.imported.manifest import Part
from bowerbird.log.schema import AVAILABLE, ID

_ROW_GROUP = 1 << 17
DAY = 86_400_000_000
"""Microseconds of a day."""


def date_of(day: int) -> str:
    """Return the UTC date (``2022-04-25``) of a number of days since 1970."""
    return str(np.datetime64(day, "D"))


def write_part(folder: Path, name: str, date: str, table: pa.Table) -> Part:
    """Write one type's records of one day, sorted by (``_available``, ``_id``), durably; StorageError."""
    target = folder / name / f"date={date}"
    make_folder(target)
    temporary = target / f"{TEMPORARY_PREFIX}part.parquet"
    ordered = table.take(pc.sort_indices(table, [(AVAILABLE, "ascending"), (ID, "ascending")]))
    with storage_errors(temporary):
        try:
            pq.write_table(ordered, temporary, compression="zstd", row_group_size=_ROW_GROUP)
            sync_file(temporary)
            with temporary.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            path = target / f"part-{content}.parquet"
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target)
    return Part(name, date, str(path.relative_to(folder)), table.num_rows)


def read_part(folder: Path, part: Part, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Return columns of a part; those declared after it was written are null.

    Raises CorruptionError where the file is missing or damaged, InputError where a declared type has changed.
    """
    path = folder / part.file
    try:
        with pq.ParquetFile(path) as file:
            stored = [name for name in columns if name in file.schema_arrow.names]
            table = file.read(stored, use_threads=False)
            rows = file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "Restore it from a backup, or delete the log folder and ingest again."
        raise CorruptionError(f"{path} cannot be read: {error}.", remedy) from error
    if rows != part.rows:
        raise CorruptionError(f"{path} has {rows} records, and the manifest says {part.rows}.", "Restore the log.")
    arrays = [_column(table, schema.field(name), rows, path) for name in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema([schema.field(name) for name in columns]))


def _column(table: pa.Table, field: pa.Field, rows: int, path: Path) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(rows, field.type)
    column = table.column(field.name)
    if column.type != field.type:
        raise InputError(
            f"Column {field.name!r} is declared as {field.type}, and {path} has it as {column.type}.",
            "Declare it as before, or delete the log folder and ingest again.",
        )
    return column
