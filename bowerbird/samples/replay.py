"""Replays the log through an engine and reads every exposure's features as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.log.reader import LogReader
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import Engine

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reads:
    """Point-in-time reads of some rows: ``positions`` int64 [n] ascending LSNs, ``times`` int64 [n]
    microseconds, ``slots`` uint64 [slots, n].
    """

    positions: Indices
    times: Indices
    slots: Slots

    def part(self, start: int, stop: int) -> ReadBatch:
        """Return reads [start, stop) for an engine."""
        cut = slice(start, stop)
        return ReadBatch(self.positions[cut], self.times[cut], np.ascontiguousarray(self.slots[:, cut]))


@dataclass(frozen=True)
class ReplayedRows:
    """Features of reads [start, start + rows)."""

    start: int
    rows: int
    block: FeatureBlock


def reads_of_exposures(encoder: Encoder, exposures: pa.Table) -> Reads:
    """Return the reads of exposures (rows of ``LogReader.exposures``, ascending by ``_read_lsn``)."""
    plan = encoder.plan
    name = next(record.name for record in plan.types if record.kind == "exposure")
    positions = exposures.column("_read_lsn").to_numpy().astype(np.int64)
    times = exposures.column("_read_time").to_numpy().astype(np.int64)
    return Reads(positions, times, encoder.encode_table(name, exposures))


def replay(reader: LogReader, encoder: Encoder, engine: Engine, reads: Reads) -> Iterator[ReplayedRows]:
    """Apply the log from the engine's position on, and yield the reads' features as it goes.

    Stops after the last read. Memory is bounded by one batch of the log.
    """
    done = 0
    total = len(reads.positions)
    for batch in reader.batches(encoder.plan, encoder, first=engine.lsn):
        if done == total:
            return
        end = batch.first_lsn + len(batch.records)
        stop = int(np.searchsorted(reads.positions, end, side="left"))
        block = engine.replay(batch.records, reads.part(done, stop))
        if stop > done:
            yield ReplayedRows(done, stop - done, block)
        done = stop
    if done < total:
        yield ReplayedRows(done, total - done, engine.replay(empty_batch(encoder), reads.part(done, total)))


def advance(reader: LogReader, encoder: Encoder, engine: Engine, last: int | None = None) -> None:
    """Apply the log to an engine from its position up to LSN ``last`` (default: the end)."""
    for batch in reader.batches(encoder.plan, encoder, first=engine.lsn, last=last):
        engine.apply(batch.records)


def empty_batch(encoder: Encoder) -> RecordBatch:
    """Return a batch without records."""
    return encoder.encode_events([])
