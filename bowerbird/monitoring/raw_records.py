"""Single records of the log with their ids and values, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.log.reader import LSN, LogReader
from bowerbird.monitoring.records import Indices

_NEAR = 1 << 17
"""LSNs closer than this are read together: a day of the log is read whole anyway."""


def raw_records(reader: LogReader, type_name: str, lsns: Indices) -> dict[int, dict[str, Any]]:
    """Return records of one type by LSN, int64 [n] ascending: their canonical columns.

    A record that a later one took back, or that was forgotten, may be absent.
    """
    found: dict[int, dict[str, Any]] = {}
    for near in _clusters(lsns):
        table = reader.records(type_name, int(near[0]), int(near[-1]) + 1)
        wanted = table.filter(pc.is_in(table.column(LSN), value_set=pa.array(near)))
        found |= {row[LSN]: row for row in wanted.to_pylist()}
    return found


def _clusters(lsns: Indices) -> Iterator[Indices]:
    if len(lsns):
        yield from np.split(lsns, np.flatnonzero(np.diff(lsns) > _NEAR) + 1)
