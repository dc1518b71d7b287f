"""The order of imported records, a day at a time: available, exposures first, type's name, event id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DayOrder:
    """Record r of a day is row ``rows[r]`` of the day's type number ``types[r]``, at ``available[r]``."""

    types: npt.NDArray[np.int32]
    rows: Integers
    available: Integers


def order_day(available: list[Integers], ids: Callable[[int], pa.ChunkedArray]) -> DayOrder:
    """Return the order of one day's records.

    ``available`` has int64 [n] microseconds for each type, the types by their rank among records of one
    instant; ``ids(type)`` is called only for types in which two records share an instant.
    """
    types = np.repeat(np.arange(len(available), dtype=np.int32), [len(times) for times in available])
    rows = np.concatenate([np.arange(len(times)) for times in available]) if available else np.empty(0, np.int64)
    times = np.concatenate(available) if available else np.empty(0, np.int64)
    order = np.lexsort((types, times))
    types, rows, times = types[order], rows[order], times[order]
    tied = np.zeros(len(times), dtype=np.bool_)
    tied[1:] = (times[1:] == times[:-1]) & (types[1:] == types[:-1])
    tied[:-1] |= tied[1:]
    for kind in np.unique(types[tied]):
        places = np.flatnonzero(tied & (types == kind))
        rows[places] = _by_id(times[places], rows[places], ids(int(kind)))
    return DayOrder(types, rows, times)


def _by_id(times: Integers, rows: Integers, ids: pa.ChunkedArray) -> Integers:
    table = pa.table({"time": times, "id": ids.take(pa.array(rows))})
    order: Integers = pc.sort_indices(table, [("time", "ascending"), ("id", "ascending")]).to_numpy()
    return rows[order]
