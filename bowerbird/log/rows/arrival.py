"""When rows of a source became known: told by a column, or modelled by a delay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import Source
from bowerbird.log.rows.coerce import coerce, to_mask
from bowerbird.log.rows.faults import BAD_TIME, EARLY, FUTURE, Faults, Mask
from bowerbird.log.rows.timestamps import parse_times

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrival:
    """Arrivals that a batch's rows tell: ``times`` int64 [n] microseconds where ``given`` bool [n]."""

    column: str
    times: Times
    given: Mask

    def of_rows(self, times: Times, delay: int, faults: Faults) -> Times:
        """Return int64 [n] when the rows' own records became available; told to be earlier than it happened: a fault.

        A row without a time of its own (0) was there from the beginning, unless its arrival is told.
        """
        faults.add(self.given & (self.times < times), EARLY, self.column, "expected the time of the event or later")
        return np.where(self.given, self.times, np.where(times == 0, 0, times + delay))

    def of_actions(self, times: Times, delay: int) -> Times:
        """Return int64 [n] when actions became available: with their row, or after it by their own time."""
        return np.maximum(times + delay, np.where(self.given, self.times, 0))


def read_arrival(batch: pa.RecordBatch, source: Source, retracts: Mask, latest: int, faults: Faults) -> Arrival:
    """Return a batch's arrivals; unreadable ones, and those after ``latest``, are faults.

    A row that takes back another must tell its own: its event time is the other's.
    """
    if source.available is None:
        return Arrival("", np.zeros(batch.num_rows, dtype=np.int64), np.zeros(batch.num_rows, dtype=np.bool_))
    column = source.available.column
    parsed = parse_times(batch[column], source.available)
    missing = _missing(batch[column])
    faults.add(parsed.bad & ~missing, BAD_TIME, column, "expected the time at which the row became known")
    faults.add(missing & retracts, BAD_TIME, column, "a row that takes back tells when it became known")
    given = ~parsed.bad
    faults.add(given & (parsed.times > latest), FUTURE, column, "check the unit, the zone and the clock")
    return Arrival(column, parsed.times, given)


def _missing(raw: pa.Array) -> Mask:
    plain = raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw
    if pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type):
        return to_mask(coerce(plain, ColumnType.TEXT).values.is_null())
    return to_mask(plain.is_null())
