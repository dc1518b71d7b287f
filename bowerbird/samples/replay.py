"""Replays the log through an engine and reads every exposure's features as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.log.reader import LogReader
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import Engine, NativeEngine
from bowerbird.prefetch import prefetched

Indices = npt.NDArray[np.int64]
_MEMORY = 1 << 30
_BLOCK_ROWS = 1 << 16


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


def replay(
    reader: LogReader, encoder: Encoder, engine: NativeEngine, reads: Reads, memory: int = _MEMORY
) -> Iterator[ReplayedRows]:
    """Apply the log from the engine's position on, and yield the reads' features as it goes.

    Stops after the batch of the last read. Records are taken in bulk, as many as ``memory`` bytes hold of what they
    and the answers need; a thread reads and encodes the next batch meanwhile.
    """
    done, total = 0, len(reads.positions)
    with closing(prefetched(_pieces(reader, encoder, engine.lsn, reads), 1)) as pieces:
        while done < total:
            bulk = engine.bulk()
            for records, part in pieces:
                bulk.add(records, part)
                if bulk.memory >= memory:
                    break
            bulk.run()
            for rows, block in bulk.blocks(_BLOCK_ROWS):
                yield ReplayedRows(done, rows, block)
                done += rows


def _pieces(
    reader: LogReader, encoder: Encoder, first: int, reads: Reads
) -> Iterator[tuple[RecordBatch, ReadBatch]]:
    """Yield the log's batches from LSN ``first`` on with the reads between their records, up to the last read."""
    done, total = 0, len(reads.positions)
    for batch in reader.batches(encoder.plan, encoder, first=first):
        if done == total:
            return
        stop = int(np.searchsorted(reads.positions, batch.first_lsn + len(batch.records), side="left"))
        yield batch.records, reads.part(done, stop)
        done = stop
    if done < total:
        yield empty_batch(encoder), reads.part(done, total)


def advance(reader: LogReader, encoder: Encoder, engine: Engine, last: int | None = None) -> None:
    """Apply the log to an engine from its position up to LSN ``last`` (default: the end)."""
    for batch in reader.batches(encoder.plan, encoder, first=engine.lsn, last=last):
        engine.apply(batch.records)


def empty_batch(encoder: Encoder) -> RecordBatch:
    """Return a batch without records."""
    return encoder.encode_events([])
