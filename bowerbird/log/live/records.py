"""Live records as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa

from bowerbird.declare.records import Event, Table
from bowerbird.errors import InputError
from bowerbird.log.live.wal_reader import Payload, read_wal
from bowerbird.log.schema import record_schema

CHUNK_ROWS = 1 << 14


def live_chunks(folder: Path, first: int, last: int) -> Iterator[list[tuple[int, Payload]]]:
    """Yield (LSN, payload) of the records from ``first`` to below ``last``, a list of them at a time."""
    records = read_wal(folder, first, last)
    while chunk := list(islice(records, CHUNK_ROWS)):
        yield chunk


def live_table(record: Event | Table, payloads: Sequence[Payload], columns: Sequence[str]) -> pa.Table:
    """Return canonical columns of live records of one type; InputError where a declared type has changed."""
    schema = record_schema(record)
    arrays = []
    for name in columns:
        kind = schema.field(name).type
        try:
            arrays.append(pa.array([payload.get(name) for payload in payloads], kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"Column {name!r} of {record.name!r} is declared as {kind}; live records disagree: {error}.",
                "Declare it as before.",
            ) from error
    return pa.Table.from_arrays(arrays, schema=pa.schema([schema.field(name) for name in columns]))
