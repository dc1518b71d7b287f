"""Bowerbird's side of bench.features: Parquet columns to slots, the native engine, features of each exposure."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.features.answers import Answers, Sequences
from bench.features.log import CLICK, EXPOSURE, LogShape
from bench.features.plan import SEQUENCE, compiled
from bench.features.task import Outcome, Task
from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, StateOptions, build_engine
from bowerbird.plan.spec import Plan
from bowerbird.prefetch import prefetched

BATCH = 1 << 17


def engine_of(plan: Plan, threads: int) -> NativeEngine:
    """Return an empty engine with so many threads."""
    return build_engine(plan, StateOptions(threads=threads))


class Feeder:
    """Turns a log's rows into records of a plan, and reads of its exposures."""

    def __init__(self, plan: Plan, threads: int) -> None:
        self.plan = plan
        self.engine = engine_of(plan, threads)
        self._encoder = Encoder(plan)
        kinds = {EXPOSURE: "exposure", CLICK: "click"}
        self._types = np.array([plan.type_index(kinds[kind]) for kind in sorted(kinds)], dtype=np.int32)

    def catalogue(self, items: pa.Table) -> None:
        """Apply the items' attributes."""
        slots = self._encoder.encode_table("items", items)
        types = np.full(len(items), self.plan.type_index("items"), dtype=np.int32)
        self.engine.apply(RecordBatch(types, np.zeros(len(items), dtype=np.int64), slots))

    def encoded(self, batch: pa.RecordBatch, lsn: int) -> tuple[RecordBatch, ReadBatch]:
        """Return events from ``lsn`` on as records, and the reads of their exposures."""
        slots = self._encoder.encode_table("exposure", pa.table(batch))
        kind, times = batch["kind"].to_numpy(), batch["time"].to_numpy()
        shown = np.flatnonzero(kind == EXPOSURE)
        reads = ReadBatch(shown + lsn, times[shown], np.take(slots, shown, axis=1))
        return RecordBatch(self._types[kind], times, slots), reads

    def log(self, shape: LogShape) -> Iterator[tuple[RecordBatch, ReadBatch]]:
        """Yield a log's batches, encoded, from the engine's position on."""
        lsn = self.engine.lsn
        for batch in pq.ParquetFile(shape.log).iter_batches(BATCH):
            yield self.encoded(batch, lsn)
            lsn += len(batch)

    def events(self, batch: pa.RecordBatch) -> tuple[ReadBatch, FeatureBlock]:
        """Apply events at once; return the reads of their exposures and the features, one row per exposure."""
        records, reads = self.encoded(batch, self.engine.lsn)
        return reads, self.engine.replay(records, reads)


class Stopwatch:
    """Adds up the seconds spent inside ``with``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def run(task: Task, keep: bool = False) -> Outcome:
    """Answer the task from its files, the whole log at once. Peers keep no state, so that none is kept but if asked."""
    started = time.perf_counter()
    feeder = Feeder(compiled(task.features), task.threads)
    feeder.catalogue(pq.read_table(task.shape.catalogue))
    bulk = feeder.engine.bulk(keep=keep)
    kernel, read_times = Stopwatch(), []
    for records, reads in prefetched(feeder.log(task.shape), 2 if task.threads > 1 else 0):
        with kernel:
            bulk.add(records, reads)
        if task.take is not None:
            read_times.append(reads.times)
    with kernel:
        bulk.run()
        done = 0
        for rows, block in bulk.blocks(BATCH):
            if task.take is not None:
                read_times = [np.concatenate(read_times)]
                task.take(Answers(read_times[0][done : done + rows], block.numbers, _sequences(block)))
                done += rows
    return Outcome(time.perf_counter() - started, kernel.seconds)


def _sequences(block: FeatureBlock) -> Sequences | None:
    if SEQUENCE not in block.sequences:
        return None
    ragged = block.sequences[SEQUENCE]
    item, category = ragged.fields.values()
    return Sequences(ragged.offsets, item.astype(np.uint64), category.astype(np.uint64), ragged.age)
